import subprocess
import sys

import pytest
from typer.testing import CliRunner

from millrace_local.cli import _MODULES, app


@pytest.mark.parametrize("command", _MODULES)
def test_every_command_is_found_in_its_module(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"])
    assert told.exit_code == 0, told.output
    assert f"millrace {command}" in told.output


def test_the_overview_names_every_command() -> None:
    told = CliRunner().invoke(app, ["--help"])
    assert all(command in told.output for command in _MODULES)


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2


def test_a_quick_command_does_not_import_what_only_slow_ones_need() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from millrace_local.cli import app\n"
        "CliRunner().invoke(app, ['status', '--work-dir', '/nowhere'])\n"
        "print(sorted({'polars', 'pyarrow', 'bytewax', 'jgo', 'pydantic_settings'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "[]\n"
