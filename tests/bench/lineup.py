"""All systems that the bench knows."""

from python_peers import bytewax, quix
from systems import PLAIN, System, millrace


def all_systems() -> dict[str, System]:
    """Return every system by name, in the order of a round."""
    systems = (
        PLAIN,
        millrace(),
        bytewax(),
        quix("quix", "exactly-once"),
        quix("quix-at-least-once", "at-least-once"),
    )
    return {system.name: system for system in systems}
