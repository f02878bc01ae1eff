"""Another lane of a running stack: its topics and services, for as long as history is sent through it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from millrace_local import stack as stacks
from millrace_local import starting
from millrace_local.draining import close_sessions, wait_until_through, without_idle_advance
from millrace_local.services import SERVICES, in_other_lane
from millrace_local.starting import Say


@contextmanager
def lane_running(work_dir: Path, lane: str, say: Say) -> Iterator[None]:
    """Run `lane` while the block runs. After it: wait until all is through, close its sessions, stop its services.

    If the block fails or is interrupted, the services stop at once; what they have not committed is read again by the
    next run. The live lane is not touched.

    Raises:
        LocalStackError: no stack runs there, the lane does not come up, or its records get stuck.
    """
    stack = stacks.require(work_dir)
    services = without_idle_advance(in_other_lane(SERVICES, lane, {"MAX_AGE_SECONDS": "0"}))
    titles = [service.title for service in services]
    say(f"starting lane {lane}")
    starting.prepare(stack, lane)
    try:
        stack.stop_services(titles)  # left over from a run that was killed
        stack.add_services(services)
        stack.wait_ready()
        yield
        say("waiting until all records are through")
        wait_until_through(stack, services)
        say("closing the sessions that are still open")
        close_sessions(stack, next(service.title for service in services if service.name == "sessionize"))
        wait_until_through(stack, services)
    finally:
        say(f"stopping lane {lane}")
        stack.stop_services(titles)
