"""The two environment files are complete and load."""

from pathlib import Path

import pytest

from millrace_common.settings import load
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.settings import SessionizeSettings

SERVICE = Path(__file__).parents[1]


def assignments(name: str) -> dict[str, str]:
    lines = (SERVICE / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def settings_of(monkeypatch: pytest.MonkeyPatch, name: str) -> SessionizeSettings:
    for field in SessionizeSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for variable, value in assignments(name).items():
        monkeypatch.setenv(variable, value)
    return load(SessionizeSettings)


def test_minimal_and_reference_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch, ".env.minimal") == settings_of(monkeypatch, ".env.reference")


def test_reference_names_every_setting() -> None:
    assert set(assignments(".env.reference")) == {field.upper() for field in SessionizeSettings.model_fields}


def test_minimal_names_what_has_no_default() -> None:
    required = {name.upper() for name, field in SessionizeSettings.model_fields.items() if field.is_required()}
    assert set(assignments(".env.minimal")) == required


def test_defaults_are_the_rules_of_the_design(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch, ".env.minimal").rules == SessionRules()
