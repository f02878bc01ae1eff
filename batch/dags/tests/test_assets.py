"""Assets are what there is: every mart of dbt, every table of the lake."""

import re
from pathlib import Path

from millrace_dags.assets import LAKE, MART_NAMES

PROJECT = Path(__file__).parents[3]


def test_there_is_an_asset_for_every_mart() -> None:
    assert {path.stem for path in (PROJECT / "dbt/models/marts").glob("**/*.sql")} == set(MART_NAMES)


def test_there_is_an_asset_for_every_table_of_the_lake() -> None:
    # The project's packages are not in Airflow's environment: their words are read.
    stream = (PROJECT / "services/lake/src/millrace_lake/tables.py").read_text()
    declared = set(re.findall(r'^    "([a-z_]+)": _', stream, re.MULTILINE))
    catalog = (PROJECT / "batch/jobs/src/millrace_batch/catalog.py").read_text()
    (of_jobs,) = re.findall(r"^BATCH_TABLES: Final = \((.*?)^\)", catalog, re.MULTILINE | re.DOTALL)
    assert set(LAKE) == declared | set(re.findall(r'"([a-z_]+)"', of_jobs))
