"""Finds the cluster to send to."""

from collections.abc import Callable
from pathlib import Path

from millrace_generator.errors import InputError
from millrace_generator.sending import Target

FindStack = Callable[[Path], Target | None]
"""Returns the local stack that runs in a work folder, None if there is none."""


def find_target(
    work_dir: Path, bootstrap_servers: str | None, registry_url: str | None, find_stack: FindStack
) -> Target:
    """Return the cluster that is named, or else the local stack running in `work_dir`.

    Raises:
        InputError: neither is there.
    """
    if bootstrap_servers and registry_url:
        return Target(bootstrap_servers, registry_url)
    if bootstrap_servers or registry_url:
        message = "--bootstrap-servers and --registry-url go together"
        raise InputError(message)
    stack = find_stack(work_dir)
    if stack is None:
        message = (
            f"no stack runs in {work_dir}: start one with `millrace up --work-dir {work_dir}`, or name a cluster with "
            f"--bootstrap-servers and --registry-url"
        )
        raise InputError(message)
    return stack
