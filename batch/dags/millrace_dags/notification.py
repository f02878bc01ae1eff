"""Telling people: by a Slack webhook if one is configured, into the log otherwise."""

import json
import logging
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from millrace_dags import settings

_LOG: Final = logging.getLogger(__name__)
_TIMEOUT_SECONDS: Final = 10


def tell(text: str, webhook: str | None = None) -> None:
    """Post `text` to `webhook`, or log it if there is none.

    Raises:
        OSError: the webhook does not take it.
    """
    if webhook is None:
        _LOG.warning("%s", text)
        return
    request = urllib.request.Request(  # noqa: S310  # settings let https only pass
        webhook, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310
        pass


def tell_of_failed_run(context: Mapping[str, Any]) -> None:
    """Tell that a run failed: the callback of every DAG."""
    run = context["dag_run"]
    tell(f"{run.dag_id} failed: run {run.run_id}", settings.load().slack_webhook)


def tell_of_late_run(context: Mapping[str, Any], **kwargs: Any) -> None:
    """Tell that a run has passed its deadline and goes on."""
    run = context["dag_run"]
    tell(f"{run['dag_id']} is late: run {run['dag_run_id']} goes on", settings.load().slack_webhook)
