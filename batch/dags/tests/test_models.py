"""What the DAG knows of dbt's models is what their own text says."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace_dags.models import BEFORE, SNAPSHOT, WITH

DBT = Path(__file__).parents[3] / "dbt"
SQL = {path.stem: path.read_text() for path in DBT.glob("models/**/*.sql")}
SNAPSHOTS = {path.stem: path.read_text() for path in DBT.glob("snapshots/*.yml")}
VIEWS = {path.stem for layer in ("staging", "intermediate") for path in (DBT / "models" / layer).glob("**/*.sql")}


def refs(model: str) -> set[str]:
    """Return what a model reads, by itself and through the macros it calls."""
    text = (SQL | SNAPSHOTS)[model]
    macros = "".join(path.read_text() for path in DBT.glob("macros/*.sql"))
    for name in re.findall(r"\b(\w+)\(", text):
        body = re.search(rf"{{% macro {name}\(.*?{{%-? endmacro", macros, re.DOTALL)
        text += body[0] if body else ""
    return set(re.findall(r"ref\('(\w+)'\)", text))


def marts_behind(model: str) -> Iterator[str]:
    for name in refs(model):
        if name in BEFORE:
            yield name
        else:
            yield from marts_behind(name)


@pytest.mark.parametrize("model", BEFORE)
def test_model_comes_after_every_mart_it_reads(model: str) -> None:
    assert set(marts_behind(model)) == set(BEFORE[model])


def test_every_mart_and_snapshot_has_a_task() -> None:
    assert set(BEFORE) == {path.stem for path in (DBT / "models/marts").glob("**/*.sql")} | {SNAPSHOT}
    assert set(SNAPSHOTS) == {SNAPSHOT}


def test_views_that_read_marts_are_built_by_the_task_of_their_reader() -> None:
    reading = {view for view in VIEWS if set(marts_behind(view))}
    assert reading == set(WITH.values())
    assert all(view in refs(model) for model, view in WITH.items())
