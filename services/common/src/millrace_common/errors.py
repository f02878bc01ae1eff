"""The errors of a stream processor, by what an operator has to do about them."""


class MillraceError(Exception):
    """Base of every error raised on purpose."""


class RetryableError(MillraceError):
    """The same call may succeed later: a part outside did not answer."""


class FatalError(MillraceError):
    """The process must stop; its orchestrator may start it again."""


class SettingsError(FatalError):
    """One or more settings are missing or wrong; the message lists all of them."""


class StartupError(FatalError):
    """The world does not fit the configuration: a topic, a partition count or an offset is not what it must be."""


class UnavailableError(FatalError):
    """A part that this process cannot begin without did not answer; a restart tries again."""


class FencedError(FatalError):
    """Another process has taken over this one's transactional id."""


class BrakeError(FatalError):
    """More than the allowed share of recent records was dead: somebody should look before more are set aside."""


class RegistryUnavailableError(RetryableError):
    """The schema registry did not answer."""
