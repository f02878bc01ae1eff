"""What can go wrong with the local stack, each with what to do in its message."""

from millrace_common.errors import MillraceError


class LocalStackError(MillraceError):
    """The local stack cannot do what was asked."""


class DownloadError(LocalStackError):
    """A pinned file is not in the cache and could not be fetched, or is not the file that was pinned."""


class JavaError(LocalStackError):
    """There is no Java that is new enough."""


class PortTakenError(LocalStackError):
    """Another process listens on a port that the stack needs."""


class NotReadyError(LocalStackError):
    """A process of the stack did not come up."""


class NotRunningError(LocalStackError):
    """There is no running stack in the work directory."""


class TopicConflictError(LocalStackError):
    """A topic differs from its declaration in a way that cannot be changed in place."""


class SchemaConflictError(LocalStackError):
    """A schema is not compatible with what the registry holds."""
