"""The start of lake: it listens for signals first, and then imports the rest."""

import sys

from millrace_common.signals import stop_event


def main() -> None:
    """Run lake until it is told to stop."""
    stopping = stop_event()
    from millrace_lake.app import main as run  # noqa: PLC0415

    sys.exit(run(stopping))


if __name__ == "__main__":
    main()
