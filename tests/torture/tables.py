"""What the logs of the Delta tables must show, whatever happened: positions only grow, files are added once."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def table_problems(lake: Path) -> list[str]:
    """Return what does not hold in the Delta logs of the tables under `lake`, a sentence each."""
    problems: list[str] = []
    for log in sorted(lake.glob("*/_delta_log")):
        problems += _problems(log.parent.name, log)
    return problems


def _problems(table: str, log: Path) -> Iterator[str]:
    positions: dict[str, int] = {}
    files: Counter[str] = Counter()
    versions = 0
    for version, action in _actions(log):
        versions = version + 1
        if "txn" in action:
            app, position = action["txn"]["appId"], action["txn"]["version"]
            if position < positions.get(app, 0):
                yield f"{table}: version {version} took {app} back from {positions[app]} to {position}"
            positions[app] = position
        if "add" in action:
            files[action["add"]["path"]] += 1
    yield from (f"{table}: {path} was added {times} times" for path, times in files.items() if times > 1)
    if not versions:
        yield f"{table}: its log is empty"


def _actions(log: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for path in sorted(log.glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield int(path.stem), json.loads(line)
