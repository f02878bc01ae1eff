"""What the documents say is so: generated pages are current, links lead somewhere, names exist, examples come true."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
import typer
from deltalake import write_deltalake
from typer.core import TyperGroup

from millrace_lake.tables import NAMES, tables
from millrace_local import cli
from millrace_sessionize.rules import MINUTE_MS, SessionRules
from millrace_sessionize.state import OpenSessions
from millrace_sessionize.testing import batch, event

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "reference"
PAGES: Final = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("services/*/README.md"),
        *ROOT.glob("infra/*/README.md"),
        *ROOT.glob("dbt/*.md"),
        *ROOT.glob("batch/dags/*.md"),
        ROOT / "batch/jobs/README.md",
    ]
)
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE: Final = re.compile(r"^[ ]*```([^\n]*)\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)
# Upper-case names with an underscore that are no settings: of Kafka, Avro and the like.
OTHER_NAMES: Final = {
    "AVRO_TYPE",
    "BACKWARD_TRANSITIVE",
    "SASL_PLAINTEXT",
    "SASL_SSL",
    "BYTEWAX_DATAFLOW_API_ENABLED",
    "AIRFLOW_HOME",
    "JAVA_HOME",
    "LAKE_URI",
    "RACE_COMMITS",
    "STATE_VERSION",
    "TRANSACTIONAL_ID",
    "WORK_DIR",
}
PACKAGES: Final = re.compile(r"millrace_(batch|common|dags|schemas|local|ingest|enrich|sessionize|lake|generator)$")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Return the fragments a page's headings can be reached by, as common renderers make them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(FENCE.sub("", text_of(page))))
    return {heading.strip().replace(" ", "-") for heading in plain}


def settings_known() -> set[str]:
    return set(re.findall(r"^\| `([A-Z_]+)` \|", text_of(REFERENCE / "settings.md"), re.MULTILINE))


def metrics_known() -> set[str]:
    return set(re.findall(r"^\| `(millrace_\w+)` \|", text_of(REFERENCE / "metrics.md"), re.MULTILINE))


def commands_in(page: Path) -> Iterator[list[str]]:
    """Yield the words behind `millrace` wherever a page shows a command line of it."""
    text = text_of(page)
    shown = [line for kind, block in FENCE.findall(text) if kind in ("sh", "console") for line in block.splitlines()]
    shown += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in shown:
        found = re.match(r"(?:\$ )?(?:\.venv/bin/)?millrace ([^#|>]*)", line)
        if found:
            yield found[1].split()


def test_reference_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(REFERENCE / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_settings_and_metrics_that_are_named_exist(page: Path) -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(page))))
    settings = set(re.findall(r"\b[A-Z]+(?:_[A-Z0-9]+)+\b", code)) - OTHER_NAMES
    local = set(re.findall(r"\bMILLRACE_[A-Z_]+\b", code))
    metrics = {name for name in re.findall(r"\bmillrace_[a-z_]+\b", code) if not PACKAGES.match(name)}
    assert settings - local <= settings_known()
    assert metrics <= metrics_known()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_that_are_shown_exist(page: Path) -> None:
    for words in commands_in(page):
        command: Any = typer.main.get_command(cli.app)
        while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
            name = words.pop(0)
            command = command.get_command(typer.Context(command), name)
            assert command is not None, name
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        asked = {bare for word in words if (bare := word.strip("[]").partition("=")[0]).startswith("-")}
        assert asked <= known | {"--help"}, words


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_that_are_shown_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", text_of(page), re.MULTILINE))
    assert shown <= targets


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = set(LINK.findall(text_of(folder / "README.md")))
    assert listed == {page.name for page in folder.glob("[0-9]*.md")}


def test_every_runbook_is_listed() -> None:
    folder = ROOT / "docs" / "runbooks"
    listed = set(LINK.findall(text_of(folder / "README.md")))
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= listed


def examples_of_sessions() -> list[tuple[str, str]]:
    """Return (arrivals, sessions of `a`) of each row of the table of examples."""
    table = text_of(ROOT / "docs" / "architecture" / "sessions.md").partition("## Examples")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if re.match(r"\| \d", line)]
    return [(row[0], row[-1]) for row in cells]


@pytest.mark.parametrize(("arrivals", "sessions"), examples_of_sessions())
def test_examples_of_sessions_come_true(arrivals: str, sessions: str) -> None:
    state, happened = OpenSessions(SessionRules()), []
    for arrival in arrivals.split(", "):
        minute, key = int(arrival.rstrip("b")), "b" if arrival.endswith("b") else "a"
        applied = state.apply(batch([event(minute * MINUTE_MS, client_session_id=key)]))
        happened += [(minute, minute, "late")] * len(applied.late_rows)
    happened += [(*minutes(row), "closed") for row in state.close().sessions.to_pylist()]
    still_open = state.updates_since_last(at_most=100).to_pylist()
    happened += [(*minutes(row), "open") for row in still_open if row["client_session_id"] == "a"]
    assert sorted(happened) == sorted(told(sessions))


def minutes(session: dict[str, Any]) -> tuple[int, int]:
    begin, end = (session[name].replace(tzinfo=UTC).timestamp() / 60 for name in ("started_at", "ended_at"))
    return int(begin), int(end)


def told(sessions: str) -> Iterator[tuple[int, int, str]]:
    """Yield what "0 to 0, closed; 10 is late" and "0 to 0 and 31 to 31, both open" say."""
    for part in sessions.split("; "):
        for begin, end in re.findall(r"(\d+) to (\d+)", part):
            yield int(begin), int(end), "closed" if part.endswith("closed") else "open"
        for minute in re.findall(r"(\d+) is late", part):
            yield int(minute), int(minute), "late"


def python_blocks() -> list[Any]:
    """Return every block of Python in the project's own pages that needs nothing but a lake."""
    own = [page for page in PAGES if page.parent == ROOT or ROOT / "docs" in page.parents]
    found = [(page, block) for page in own for kind, block in FENCE.findall(text_of(page)) if kind == "python"]
    return [pytest.param(block, id=f"{named(page)}-{number}") for number, (page, block) in enumerate(found)]


@pytest.mark.parametrize("block", python_blocks())
def test_python_that_is_shown_runs_on_a_lake_of_one_row_a_table(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for spec in tables(NAMES):
        row = {field.name: one_of(field.type) for field in spec.schema}
        rows = pa.Table.from_pylist([row], schema=spec.schema)
        write_deltalake(str(tmp_path / ".millrace" / "lake" / spec.name), rows, partition_by=[spec.partition_column])
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "<shown>", "exec"), {})  # noqa: S102


def one_of(kind: pa.DataType) -> Any:
    """Return some value of an Arrow type."""
    if pa.types.is_struct(kind):
        return {field.name: one_of(field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        return []
    if pa.types.is_timestamp(kind):
        return datetime(2026, 1, 2, tzinfo=UTC)
    if pa.types.is_binary(kind):
        return b"1"
    if pa.types.is_decimal(kind):
        return Decimal("1.00")
    return date(2026, 1, 2) if pa.types.is_date32(kind) else pa.scalar(1).cast(kind).as_py()
