"""What happens to a peer that cannot be built; nothing is built here."""

from pathlib import Path

import pytest

import jvm_peers
from jvm_peers import flink
from millrace_local.errors import LocalStackError


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)


@pytest.mark.parametrize(("there", "missing"), [((), "mvn"), (("mvn",), "javac")])
def test_missing_tool_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], missing: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in there:
        program(programs, name, "exit 0")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(LocalStackError, match=f"^no {missing} on PATH: install Maven"):
        flink().prepare(tmp_path / "flink-sql")


def test_failure_of_maven_is_told_in_the_first_line_and_its_words_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    program(programs, "mvn", "echo '[ERROR] no network'; exit 1")
    program(programs, "javac", "exit 0")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(LocalStackError) as failure:
        flink().prepare(tmp_path / "flink-sql")
    assert str(failure.value).splitlines() == ["flink: Maven failed", "[ERROR] no network"]


def test_peer_is_built_again_only_when_its_sources_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, sources, calls = tmp_path / "bin", tmp_path / "peers" / "flink", tmp_path / "calls"
    built = tmp_path / "built" / "flink"
    built.mkdir(parents=True)
    sources.mkdir(parents=True)
    (sources / "pom.xml").write_text("one", encoding="utf-8")
    program(programs, "mvn", f"echo called >> {calls}")
    program(programs, "javac", "exit 0")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(jvm_peers, "PEERS", tmp_path / "peers")
    for _ in range(2):
        flink().prepare(tmp_path / "built" / "flink-sql")
    assert calls.read_text(encoding="utf-8").splitlines() == ["called"]
    (sources / "pom.xml").write_text("two", encoding="utf-8")
    flink().prepare(tmp_path / "built" / "flink-sql")
    assert calls.read_text(encoding="utf-8").splitlines() == ["called"] * 2
