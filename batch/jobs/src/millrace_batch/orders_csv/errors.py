"""What can go wrong with a drop folder."""

from millrace_batch.errors import BatchError


class DropFolderError(BatchError):
    """The folder, or a file in it, cannot be read at all."""
