"""dbt, which lives in an environment of its own, pointed at the warehouse."""

from typing import Final

from psycopg.conninfo import conninfo_to_dict

# dbt hides the values of variables with this prefix in its logs, and allows them in profiles only.
_SECRET: Final = "DBT_ENV_SECRET_WAREHOUSE_PASSWORD"  # noqa: S105  # its name, not its value


def environment(dsn: str) -> dict[str, str]:
    """Return the environment variables from which `dbt/profiles.yml` knows the database of `dsn`."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    return {
        "WAREHOUSE_HOST": parts.get("host", "localhost"),
        "WAREHOUSE_PORT": parts.get("port", "5432"),
        "WAREHOUSE_USER": parts.get("user", "millrace"),
        "WAREHOUSE_DATABASE": parts.get("dbname", "millrace"),
        "WAREHOUSE_SSLMODE": parts.get("sslmode", "prefer"),
        _SECRET: parts.get("password", ""),
        # Nothing is sent anywhere, and no version is looked up.
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
    }
