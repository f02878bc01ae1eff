"""A service with a planted bug: it goes on with a producer whose commit has an unknown outcome.

`python -m reused_producer` runs the service whose module TORTURE_MODULE names, as it would run by itself. But it
repeats the commit on the same producer instead of replacing it, as the client's documentation allows.
"""

import os
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

from confluent_kafka import KafkaError, KafkaException

from millrace_common.transactions import CALL_SECONDS, AbandonedError, TransactionalProducer
from millrace_local.services import Service

_MODULE: Final = "TORTURE_MODULE"


def planted(service: Service) -> Service:
    """Return `service` with the bug."""
    told = {_MODULE: service.module, "PYTHONPATH": str(Path(__file__).parent)}
    return replace(service, module="reused_producer", environment={**service.environment, **told})


def _repeat(self: TransactionalProducer, error: KafkaError) -> NoReturn:
    """Repeat the commit until its outcome is known, and go back to the committed offsets."""
    while True:
        try:
            self._producer.commit_transaction(CALL_SECONDS)
        except KafkaException as failure:
            if not failure.args[0].retriable():
                raise
        else:
            message = f"repeated after {error.name()}"
            raise AbandonedError(message)


if __name__ == "__main__":
    TransactionalProducer._replace = _repeat  # type: ignore[method-assign]
    runpy.run_module(os.environ[_MODULE], run_name="__main__")
