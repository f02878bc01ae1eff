from pathlib import Path

import pytest

from millrace_local.errors import JavaError
from millrace_local.java import find_compiler, find_java, major_version


@pytest.mark.parametrize(
    ("shown", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("no such thing", None),
    ],
)
def test_major_version_is_read(shown: str, major: int | None) -> None:
    assert major_version(shown) == major


def java_that_shows(folder: Path, text: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
    program.chmod(0o755)
    return program


def test_java_of_java_home_is_taken(tmp_path: Path) -> None:
    program = java_that_shows(tmp_path, 'openjdk version "17.0.1"')
    assert find_java(tmp_path) == program


def test_compiler_is_the_one_beside_java_and_a_jre_is_said(tmp_path: Path) -> None:
    program = java_that_shows(tmp_path, 'openjdk version "17.0.1"')
    with pytest.raises(JavaError, match=r"no javac beside it \(a JRE\): install a JDK 17") as raised:
        find_compiler(tmp_path)
    assert "\n" not in str(raised.value)
    compiler = program.with_name("javac")
    compiler.touch()
    assert find_compiler(tmp_path) == compiler.resolve()


def test_old_java_is_refused_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    java_that_shows(tmp_path, 'java version "1.8.0_392"')
    with pytest.raises(JavaError, match=r"is Java 8: install a JDK or JRE 17 or newer") as raised:
        find_java(tmp_path)
    assert "\n" not in str(raised.value)


def test_missing_java_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JavaError, match="no java in JAVA_HOME=.*: install a JDK"):
        find_java(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaError, match="no java on PATH: install a JDK"):
        find_java(None)


def test_a_java_that_does_not_start_is_said(tmp_path: Path) -> None:
    program = java_that_shows(tmp_path, "")
    program.write_bytes(b"\x7fELF broken")
    with pytest.raises(JavaError, match="does not run"):
        find_java(tmp_path)
