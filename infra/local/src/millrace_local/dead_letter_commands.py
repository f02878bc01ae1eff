"""millrace dead-letters list, show and replay."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final

import typer
from confluent_kafka import KafkaException

from millrace_local import console, options
from millrace_local import stack as stacks
from millrace_local.dead_letter_reading import Reader
from millrace_local.dead_letter_replay import Replay, Request, Result
from millrace_local.dead_letters import (
    Choice,
    ChoiceError,
    Group,
    Letter,
    as_data,
    check_replay_id,
    fingerprint,
    grouped,
    iso,
    parse_since,
    text_view,
)
from millrace_local.errors import LocalStackError
from millrace_local.reading import Library
from millrace_schemas import in_lane, topics

_dead_letters: Final = typer.Typer(no_args_is_help=True, help="Records that could not be processed.")

_HEADINGS: Final = ("service", "stage", "reason", "source topic", "count", "first", "last")

Reason = Annotated[str | None, typer.Option(help="Why it was refused.", show_default="any")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Refused since 2026-01-31T08:00 (UTC), or 90s, 30m, 2h, 7d ago.")
]
Topic = Annotated[str | None, typer.Option(help="Where the record was read.", show_default="any")]
Who = Annotated[str | None, typer.Option("--service", help="Who refused it.", show_default="any")]
Lane = Annotated[str, typer.Option("--lane", help="Whose dead letters; empty: the live lane.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    _dead_letters.command("list")(list_groups)
    _dead_letters.command("show")(show)
    _dead_letters.command("replay")(replay)
    app.add_typer(_dead_letters, name="dead-letters")


def list_groups(
    reason: Reason = None,
    since: Since = None,
    topic: Topic = None,
    service: Who = None,
    work_dir: options.WorkDir = options.WORK_DIR,
    lane: Lane = "",
    as_json: options.Json = False,
) -> None:
    """Count dead letters by service, stage, reason and source topic, with the times of the first and the last."""
    with _reader(work_dir, lane) as reader:
        groups = grouped(_meant(reader, _choice(lane, reason=reason, since=since, topic=topic, service=service)))
    if as_json:
        listed = [
            {**asdict(group.kind), "count": group.count, "first": iso(group.first_ms), "last": iso(group.last_ms)}
            for group in groups
        ]
        typer.echo(json.dumps(listed, indent=2))
        return
    rows = [_HEADINGS, *(_cells(group) for group in groups)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if groups else [("there are none",)]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        console.out.print(line.rstrip(), markup=False)


def show(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    reason: Reason = None,
    since: Since = None,
    topic: Topic = None,
    service: Who = None,
    partition: Annotated[int | None, typer.Option(min=0, show_default="any", help="Of the source topic.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, show_default="any", help="In the source topic.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 10,
    work_dir: options.WorkDir = options.WORK_DIR,
    lane: Lane = "",
    as_json: options.Json = False,
) -> None:
    """Show dead letters: place, reason, key, value, and its fields if they can be decoded now. Can be personal data."""
    choice = _choice(lane, reason=reason, since=since, topic=topic, service=service, partition=partition, offset=offset)
    with _reader(work_dir, lane) as reader:
        letters = list(islice(_meant(reader, choice), limit))
        contents = reader.contents(letters)
    if as_json:
        shown = [{**as_data(letter), "fields": fields} for letter, fields in zip(letters, contents, strict=True)]
        typer.echo(json.dumps(shown, indent=2, default=_of_bytes))
        return
    for letter, fields in zip(letters, contents, strict=True):
        _show_one(letter, fields)
    if not letters:
        console.out.print("there are none")


def replay(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    reason: Reason = None,
    since: Since = None,
    topic: Topic = None,
    service: Who = None,
    limit: Annotated[int | None, typer.Option(min=1, show_default="all", help="At most so many letters.")] = None,
    rate: Annotated[int | None, typer.Option(min=1, show_default="none", help="At most so many records/s.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, change nothing.")] = False,
    replay_id: Annotated[
        str | None,
        typer.Option(show_default="made from the other options", help="What is done under an id is done once."),
    ] = None,
    work_dir: options.WorkDir = options.WORK_DIR,
    lane: Lane = "",
    as_json: options.Json = False,
) -> None:
    """Send records back to where they were read, with their exact bytes, key and partition, after the cause was mended.

    Once for each replay id: a run that was killed goes on where it stopped, a second one sends nothing more. What is
    refused after the replay has begun is not part of it; send that under another id. The broker remembers an id for
    seven days after its last run (its offsets.retention.minutes).

    A record whose id the lake has already is left out, and so are copies within the replay. For the rest, ingest drops
    what it has seen within its dedup window, by the original eventId; what another service refused has passed ingest
    already and does not pass it again.
    """
    asked = {"reason": reason, "since": since, "topic": topic, "service": service, "limit": limit}
    choice = _choice(lane, reason=reason, since=since, topic=topic, service=service)
    found = fingerprint(asked)
    request = Request(_checked(replay_id or found), found, choice, limit, rate)
    with _reader(work_dir, lane) as reader:
        console.say(f"replay id {request.replay_id}")
        run = Replay(reader, request, _warn, time.sleep)
        result = run.look() if dry_run else run.run()
    if as_json:
        typer.echo(json.dumps(_result_data(request, result, dry_run=dry_run), indent=2))
    else:
        _show_result(request, result, dry_run=dry_run)


def _cells(group: Group) -> tuple[str, ...]:
    kind = group.kind
    times = iso(group.first_ms), iso(group.last_ms)
    return kind.service, kind.stage, kind.reason, kind.topic, f"{group.count:,}", *times


def _choice(lane: str, *, since: str | None, topic: str | None, **more: Any) -> Choice:
    if topic is not None and topic in {declared.name for declared in topics()}:
        topic = in_lane(topic, lane)
    try:
        since_ms = None if since is None else parse_since(since, datetime.now(UTC))
    except ChoiceError as error:
        raise typer.BadParameter(str(error)) from error
    return Choice(topic=topic, since_ms=since_ms, **more)


def _checked(replay_id: str) -> str:
    try:
        return check_replay_id(replay_id)
    except ChoiceError as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def _reader(work_dir: options.WorkDir, lane: str) -> Iterator[Reader]:
    stack = stacks.require(work_dir)
    try:
        yield Reader(Library(stack.bootstrap_servers, stack.registry_url, stack.lake, lane))
    except KafkaException as error:
        message = f"the broker did not do it: {error.args[0].str()}. The same command again finds out how far it got"
        raise LocalStackError(message) from error


def _meant(reader: Reader, choice: Choice) -> Iterator[Letter]:
    for partition in reader.partitions():
        yield from (letter for letter in reader.letters(partition) if choice.has(letter))


def _show_one(letter: Letter, fields: dict[str, Any] | None) -> None:
    lines = (
        f"{letter.source} offset {letter.source_offset}, record of {iso(letter.source_timestamp_ms)}",
        f"  refused by {letter.service} at {letter.stage}, {iso(letter.occurred_at_ms)}: {letter.reason}",
        f"  detail  {letter.detail}",
        f"  key     {text_view(letter.key)}",
        f"  value   {text_view(letter.value)}",
        f"  fields  {'cannot be decoded' if fields is None else json.dumps(fields, default=_of_bytes)}",
    )
    console.out.print("\n".join(lines), markup=False)


def _of_bytes(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _warn(line: str) -> None:
    console.err.print(f"! {line}", markup=False)


def _result_data(request: Request, result: Result, *, dry_run: bool) -> dict[str, Any]:
    return {
        "replay_id": request.replay_id,
        "dry_run": dry_run,
        **asdict(result.now),
        "earlier": asdict(result.before),
    }


def _show_result(request: Request, result: Result, *, dry_run: bool) -> None:
    if not result.now.letters:
        earlier = f": {result.before.sent:,} records were sent by earlier runs" if result.before.letters else ""
        console.out.print(f"nothing is left to send under replay id {request.replay_id}{earlier}", markup=False)
        return
    verb = "would be sent" if dry_run else "sent"
    console.out.print(f"{result.now.sent:,} records {verb} under replay id {request.replay_id}", markup=False)
    by_kind = Counter(result.kinds).most_common()
    for kind, count in by_kind:
        line = f"  {count:,} to {kind.topic}, refused by {kind.service} at {kind.stage}: {kind.reason}"
        console.out.print(line, markup=False)
    if result.now.in_lake:
        console.out.print(f"{result.now.in_lake:,} left out: the lake has them")
    if result.now.copy:
        console.out.print(f"{result.now.copy:,} left out: copies within the replay")
