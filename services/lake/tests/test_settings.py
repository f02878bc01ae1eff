"""The two environment files are complete and load."""

from pathlib import Path

import pytest

from millrace_common.errors import SettingsError
from millrace_common.settings import load
from millrace_lake.settings import LakeSettings

SERVICE = Path(__file__).parents[1]


def assignments(name: str) -> dict[str, str]:
    lines = (SERVICE / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def settings_of(monkeypatch: pytest.MonkeyPatch, name: str) -> LakeSettings:
    for field in LakeSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for variable, value in assignments(name).items():
        monkeypatch.setenv(variable, value)
    return load(LakeSettings)


def test_minimal_and_reference_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch, ".env.minimal") == settings_of(monkeypatch, ".env.reference")


def test_reference_names_every_setting() -> None:
    assert set(assignments(".env.reference")) == {field.upper() for field in LakeSettings.model_fields}


def test_minimal_names_what_has_no_default() -> None:
    required = {name.upper() for name, field in LakeSettings.model_fields.items() if field.is_required()}
    assert set(assignments(".env.minimal")) == required


def test_tables_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    settings_of(monkeypatch, ".env.minimal")
    monkeypatch.setenv("TABLES", "sessions, events")
    assert load(LakeSettings).tables == ("sessions", "events")


def test_wrong_table_and_options_are_named_without_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    settings_of(monkeypatch, ".env.minimal")
    monkeypatch.setenv("TABLES", "events,clicks")
    monkeypatch.setenv("LAKE_STORAGE_OPTIONS", '{"AWS_SECRET_ACCESS_KEY": "hush", "AWS_TIMEOUT": 3}')
    with pytest.raises(SettingsError, match=r"(?s)LAKE_STORAGE_OPTIONS.*TABLES: .*no such table: clicks") as error:
        load(LakeSettings)
    assert "hush" not in str(error.value)


def test_storage_options_are_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings_of(monkeypatch, ".env.minimal")
    monkeypatch.setenv("LAKE_STORAGE_OPTIONS", '{"AWS_SECRET_ACCESS_KEY": "hush"}')
    settings = load(LakeSettings)
    assert settings.storage_options == {"AWS_SECRET_ACCESS_KEY": "hush"}
    assert "hush" not in repr(settings)
