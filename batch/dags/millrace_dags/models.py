"""What dbt builds, a task each, and which of them come before which. A test holds this against the models' own text."""

from collections.abc import Mapping
from typing import Final

VIEWS: Final = "views"
"""All views of staging and intermediate, but for one that reads marts."""

SNAPSHOT: Final = "user_segment_periods"
BEFORE: Final[Mapping[str, tuple[str, ...]]] = {
    "fct_sessions": (),
    "fct_orders": (),
    "fct_order_items": (),
    "fct_daily_metrics": (),
    "dim_dates": (),
    SNAPSHOT: (),
    "dim_products": ("fct_order_items",),
    "dim_users": ("fct_sessions", "fct_orders", SNAPSHOT),
    "mart_funnel": ("fct_sessions", "fct_orders"),
    "mart_retention": ("fct_sessions",),
    "mart_product_performance": ("fct_order_items",),
}
"""By model: the marts and snapshots it reads, also through views."""

WITH: Final[Mapping[str, str]] = {"mart_funnel": "int_sessions__reach_steps"}
"""A view that reads marts is built by the task of the mart that reads it."""
