"""python -m millrace_local: the millrace command, where its script is not on the PATH."""

from millrace_local.cli import main

main()
