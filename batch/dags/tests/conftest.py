"""An Airflow of the tests' own: its home is a folder that goes with them."""

import atexit
import os
import shutil
import tempfile

# Airflow reads these when it is imported, which pytest does with the first test file.
_HOME = tempfile.mkdtemp(prefix="millrace-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {
    "AIRFLOW_HOME": _HOME,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
}
for name in [name for name in os.environ if name.startswith("MILLRACE_DAGS_")]:
    del os.environ[name]
