from pathlib import Path

import pytest

from millrace_common.settings import load
from millrace_local.settings import LocalSettings, StackSettings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MILLRACE_CACHE_DIR", "XDG_CACHE_HOME", "JAVA_HOME", "MILLRACE_MAVEN_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load(LocalSettings).cache_dir == Path("/home/ada/.cache/millrace")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert load(LocalSettings).cache_dir == Path("/caches/millrace")


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("MILLRACE_CACHE_DIR", "/elsewhere")
    assert load(LocalSettings).cache_dir == Path("/elsewhere")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "")
    assert StackSettings(Path("work")).local.java_home is None
