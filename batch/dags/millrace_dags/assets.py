"""Every Delta table of the lake, and every mart of the warehouse, as Airflow knows them.

Their address is not where they lie, which differs from one installation to the next: it is what lineage calls them.
"""

from collections.abc import Mapping
from typing import Final

from airflow.sdk import Asset

STREAM_TABLES: Final = ("events", "late_events", "sessions", "transactions", "dead_letters")
BATCH_TABLES: Final = (
    *("reconciliation", "user_daily_metrics", "product_metrics", "session_metrics_daily", "fact_daily_metrics"),
    *("user_segments", "user_features", "recommendation_features", "quality_results"),
)
MART_NAMES: Final = (
    *("fct_sessions", "fct_orders", "fct_order_items", "fct_daily_metrics", "dim_users", "dim_products", "dim_dates"),
    *("mart_funnel", "mart_retention", "mart_product_performance"),
)

LAKE: Final[Mapping[str, Asset]] = {
    name: Asset(name=f"lake.{name}", uri=f"millrace://lake/{name}", group="lake")
    for name in (*STREAM_TABLES, *BATCH_TABLES)
}
MARTS: Final[Mapping[str, Asset]] = {
    name: Asset(name=f"marts.{name}", uri=f"millrace://warehouse/marts/{name}", group="marts") for name in MART_NAMES
}
# Schema lake of the warehouse: the tables of a day come and go together.
LOADED_DAYS: Final = Asset(name="warehouse.lake", uri="millrace://warehouse/lake", group="warehouse")
DROP_FOLDER: Final = Asset(name="orders_csv.folder", uri="millrace://files/orders", group="files")
CSV_ORDERS: Final = tuple(
    Asset(name=f"orders_csv.{name}", uri=f"millrace://warehouse/orders_csv/{name}", group="warehouse")
    for name in ("orders", "rejects")
)
