"""What can go wrong between the lake and the warehouse, each with what to do in its message."""

from millrace_batch.errors import BatchError


class WarehouseError(BatchError):
    """The warehouse cannot be loaded."""


class WarehouseUnavailableError(WarehouseError):
    """Postgres does not answer, or cut the connection; no day in it is half, and another try may do."""


class TableChangedError(WarehouseError):
    """A column of the lake's table has another type than in the warehouse, or is gone."""
