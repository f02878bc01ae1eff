"""millrace ledger."""

import json
from typing import Annotated

import typer
from rich.console import Console

from millrace_local import console, options
from millrace_local import stack as stacks
from millrace_local.audit import Verdict, audit
from millrace_local.evidence import gather
from millrace_local.reading import Library
from millrace_local.report import books_table, ledger_sums

Lane = Annotated[str, typer.Option("--lane", help="Whose books; empty: the live lane.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(ledger)


def ledger(work_dir: options.WorkDir = options.WORK_DIR, lane: Lane = "", as_json: options.Json = False) -> None:
    """Prove from the ledger, the topics and the tables that nothing was lost or doubled; exits 1 if that fails."""
    stack = stacks.require(work_dir)
    verdict = audit(gather(Library(stack.bootstrap_servers, stack.registry_url, stack.lake, lane)))
    if as_json:
        typer.echo(json.dumps(as_data(verdict), indent=2))
    else:
        show(verdict, console.out)
    raise typer.Exit(0 if verdict.balanced else 1)


def as_data(verdict: Verdict) -> dict[str, object]:
    """Return the verdict as JSON's types: `balanced`, `in_flight`, sums by service and outcome, problems."""
    return {
        "balanced": verdict.balanced,
        "in_flight": sum(verdict.in_flight.values()),
        "quiet": verdict.quiet,
        "services": ledger_sums(verdict),
        "emitted": dict(verdict.emitted),
        "problems": list(verdict.problems),
    }


def show(verdict: Verdict, page: Console) -> None:
    """Print the verdict for a person."""
    page.print(books_table(verdict))
    if not verdict.balanced:
        page.print("[bold red]The books do not balance[/]:")
        for problem in verdict.problems:
            page.print(f"  {problem}", markup=False)
        return
    waiting = sum(verdict.in_flight.values())
    if waiting or not verdict.quiet:
        page.print(f"The books balance so far; {waiting:,} records are on their way.")
    else:
        page.print("[bold green]The books balance[/]: nothing was lost, nothing was doubled.")
