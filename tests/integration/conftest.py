"""One broker and one registry, with every topic and schema, for all tests that cross a process."""

from millrace_local.testing import local_stack

__all__ = ["local_stack"]
