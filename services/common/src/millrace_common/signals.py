"""Hearing that the process shall stop; imports next to nothing, so that a service hears it from the first moment on."""

import signal
import threading
from types import FrameType


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on; call it on the main thread.

    What a service imports takes a second or more. A SIGTERM in that second would end the process as a failure, or,
    where it is the first process of a container, would be ignored until the SIGKILL.
    """
    stopping = threading.Event()

    def stop(signal_number: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping
