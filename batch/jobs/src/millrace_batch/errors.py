"""What can go wrong with a job, each with what to do in its message."""

from millrace_common.errors import MillraceError


class BatchError(MillraceError):
    """A job cannot do what was asked."""


class MissingTableError(BatchError):
    """A table that the job reads is not in the lake."""


class EmptyInputError(BatchError):
    """A table that the job reads has no rows of the day."""


class LogStoreError(BatchError):
    """Spark would commit through something else than our log stores, and lose what the stream commits meanwhile."""


class CompilerError(BatchError):
    """The log stores could not be compiled."""


class UnknownJobError(BatchError):
    """There is no such job."""


class ConflictError(BatchError):
    """Other writers committed in between, again and again, until the job gave up; nothing of it was committed."""


class UnexplainedError(BatchError):
    """Stream and batch differ and nothing that can happen explains it: one of them is wrong."""


class QualityError(BatchError):
    """A check that must hold does not."""


class ProductsError(BatchError):
    """The new reference data of products cannot be what it should be."""


class RefreshError(BatchError):
    """Days that were due could not be computed again; the message says which, and why."""


class StaleLakeError(BatchError):
    """The stream has not written all of the day yet; another try, later, may do."""


class NothingBeganError(BatchError):
    """No session began on the day: there is nothing to compute of it, and nothing is wrong."""
