import json
from pathlib import Path
from typing import Any

from tables import table_problems


def write_log(lake: Path, *versions: list[dict[str, Any]]) -> None:
    log = lake / "events" / "_delta_log"
    log.mkdir(parents=True)
    for number, actions in enumerate(versions):
        (log / f"{number:020}.json").write_text("\n".join(map(json.dumps, actions)), encoding="utf-8")


def test_growing_positions_and_files_added_once_are_in_order(tmp_path: Path) -> None:
    write_log(
        tmp_path,
        [{"txn": {"appId": "a", "version": 5}}, {"add": {"path": "1"}}],
        [{"txn": {"appId": "a", "version": 9}}, {"add": {"path": "2"}}, {"txn": {"appId": "b", "version": 1}}],
    )
    assert table_problems(tmp_path) == []


def test_a_position_that_goes_back_is_named(tmp_path: Path) -> None:
    write_log(tmp_path, [{"txn": {"appId": "a", "version": 5}}], [{"txn": {"appId": "a", "version": 4}}])
    assert table_problems(tmp_path) == ["events: version 1 took a back from 5 to 4"]


def test_a_file_in_two_versions_is_named(tmp_path: Path) -> None:
    write_log(tmp_path, [{"add": {"path": "1"}}], [{"add": {"path": "1"}}])
    assert table_problems(tmp_path) == ["events: 1 was added 2 times"]
