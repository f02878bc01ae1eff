"""Runs a command that dies with the process that started it: `leash.py PARENT_PID COMMAND...`.

A program of its own, not a hook between fork and exec: the supervisor has threads, and Python code run between fork and
exec in such a process can hang. It imports nothing of this package and starts in about 20 ms.
On Linux the kernel kills the command when the parent is gone, however it went. Other systems have no such call; there
the next `millrace up` or `down` ends what is left (millrace_local.processes.end).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the tie was made
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
