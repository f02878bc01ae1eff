"""The start of sessionize: it listens for signals first, and then imports the rest."""

import sys

from millrace_common.signals import stop_event


def main() -> None:
    """Run sessionize until it is told to stop."""
    stopping = stop_event()
    from millrace_sessionize.app import main as run  # noqa: PLC0415

    sys.exit(run(stopping))


if __name__ == "__main__":
    main()
