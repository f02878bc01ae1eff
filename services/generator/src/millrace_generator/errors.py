"""The errors of the generator."""

from millrace_common.errors import FatalError


class InputError(FatalError):
    """A file or an option is not what it must be."""


class DeliveryError(FatalError):
    """The broker refused records for good, or the producer gave up."""
