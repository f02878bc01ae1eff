"""The millrace command. Each group of commands has a module of its own; this one only says where they are."""

import sys
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from millrace_common.errors import MillraceError

# Command to module. A module is imported when one of its commands runs, or for the overview of all: what the demo and
# the ledger need takes seconds to import, and `millrace status` should not.
_MODULES: Final = {
    "up": "stack_commands",
    "status": "stack_commands",
    "logs": "stack_commands",
    "down": "stack_commands",
    "demo": "demo_commands",
    "generate": "demo_commands",
    "ledger": "books_commands",
    "dead-letters": "dead_letter_commands",
    "reset": "reset_commands",
    "batch": "batch_commands",
    "warehouse": "warehouse_commands",
    "night": "night_commands",
    "topics": "contract_commands",
    "schemas": "contract_commands",
}


class _OnDemand(TyperGroup):
    """Finds a command by importing its module, whose `register(app)` adds it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        app = typer.Typer(pretty_exceptions_enable=False)
        import_module(f"millrace_local.{module}").register(app)
        return typer.main.get_group(app).commands[cmd_name]


app: Final = typer.Typer(
    name="millrace", cls=_OnDemand, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def _millrace() -> None:
    """Shop traffic from Kafka to a Delta lake within seconds, with books that balance."""


def main() -> None:
    """Run the command line; exit code 1 for an expected error (no traceback), 2 for wrong usage, 130 for Ctrl-C."""
    try:
        app()
    except MillraceError as error:
        sys.stderr.write(f"millrace: {error}\n")
        sys.exit(1)
