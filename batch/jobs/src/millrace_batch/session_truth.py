"""The sessions that the events make, whatever their order of arrival, and the stretches they lie in."""

from typing import Final

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from millrace_batch import session_cuts
from millrace_batch.session_events import KEY, sums
from millrace_batch.session_rules import SessionRules

SESSION_COLUMNS: Final = (
    *("session_id", KEY, "user_id", "started_at", "ended_at", "duration_ms", "event_count", "page_views", "clicks"),
    *("searches", "add_to_carts", "purchases", "unique_pages", "unique_products", "revenue_cents", "has_conversion"),
    *("is_bounce", "entry_page", "exit_page", "referrer", "device_type", "country_code", "is_bot", "closed_by"),
)
"""The columns of table sessions that follow from events: all but revision and session_date."""

OF_FIRST_EVENT: Final = ("referrer", "device_type", "country_code")
_STRETCH: Final = (KEY, "stretch_ms")
_SESSION: Final = (*_STRETCH, "run_ms", "part")


def summed_stretches(rows: DataFrame, rules: SessionRules) -> DataFrame:
    """Return a row a stretch: its bounds, what the stream should have counted in it, and what is special about it.

    Returns:
        client_session_id, stretch_ms, stretch_end_ms; `seen`: a struct of SUMS over the rows that were not late;
        late_rows, copies: rows that were late; rows counted twice by the stream;
        reaches_limit: the events need more than one session by max_duration or max_events.
    """
    kept = f.when(~f.col("is_copy"), f.col("time_ms"))
    duration_ms = f.max(kept) - f.min(kept)
    return (
        rows.groupBy(*_STRETCH)
        .agg(
            f.max("time_ms").alias("stretch_end_ms"),
            f.count_if("is_late").alias("late_rows"),
            f.count_if(f.col("is_copy") & ~f.col("is_late")).alias("copies"),
            ((duration_ms > rules.max_duration_ms) | (f.count(kept) > rules.max_events)).alias("reaches_limit"),
        )
        .join(rows.filter("not is_late").groupBy(*_STRETCH).agg(f.struct(*sums()).alias("seen")), [*_STRETCH], "left")
    )


def true_sessions(rows: DataFrame, stretches: DataFrame, rules: SessionRules) -> DataFrame:
    """Return the sessions of the events in `rows` (see `stretches`), each event once.

    Of events at one time the first to arrive counts as first and the last as last. The table knows when an event
    arrived to the millisecond of its batch: for events that it cannot order, event_id decides, and what any order
    would give is beside it.

    Returns:
        SESSION_COLUMNS, stretch_ms, and as sets of what the stream may say: any_first (a struct of OF_FIRST_EVENT),
        any_user_id, any_entry_page, any_exit_page.
    """
    events = rows.filter("not is_copy")
    limited = stretches.filter("reaches_limit").select(*_STRETCH)
    arrivals = f.array_sort(f.collect_list(f.struct(*session_cuts.Arrival._fields)))
    parts = (
        events.join(limited, [*_STRETCH], "left_semi")
        .groupBy(*_STRETCH)
        .agg(arrivals.alias("arrivals"))
        .select(KEY, f.explode(session_cuts.parts(rules)("arrivals")).alias("one"))
        .select(KEY, "one.*")
    )
    labelled = events.join(parts, [KEY, "event_id"], "left").withColumn("part", f.coalesce("part", f.lit(-1)))

    time = f.struct("time_ms", "received_ms")
    order = f.struct("time_ms", "received_ms", "event_id")
    first = f.struct(*OF_FIRST_EVENT)
    has_user, has_page = f.col("user_id").isNotNull(), f.col("page").isNotNull()
    of_session = Window.partitionBy(*_SESSION)
    tied = labelled.withColumns(
        {
            "_first": time == f.min(time).over(of_session),
            "_user": time == f.max(f.when(has_user, time)).over(of_session),
            "_entry": time == f.min(f.when(has_page, time)).over(of_session),
            "_exit": time == f.max(f.when(has_page, time)).over(of_session),
        }
    )
    found = tied.groupBy(*_SESSION).agg(
        *sums(),
        f.min("event_time").alias("started_at"),
        f.max("event_time").alias("ended_at"),
        f.size(f.collect_set("page")).alias("unique_pages"),
        f.size(f.collect_set("product_id")).alias("unique_products"),
        f.bool_or("is_bot").alias("is_bot"),
        f.coalesce(f.max("cut_by"), f.lit("gap")).alias("closed_by"),
        f.min_by(first, order).alias("first"),
        f.max_by("user_id", f.when(has_user, order)).alias("user_id"),
        f.min_by("page", f.when(has_page, order)).alias("entry_page"),
        f.max_by("page", f.when(has_page, order)).alias("exit_page"),
        f.collect_set(f.when(f.col("_first"), first)).alias("any_first"),
        f.collect_set(f.when(f.col("_user"), f.col("user_id"))).alias("any_user_id"),
        f.collect_set(f.when(f.col("_entry"), f.col("page"))).alias("any_entry_page"),
        f.collect_set(f.when(f.col("_exit"), f.col("page"))).alias("any_exit_page"),
    )
    return (
        found.withColumns({name: f.col("first")[name] for name in OF_FIRST_EVENT})
        .withColumns(
            {
                "session_id": f.concat_ws("-", KEY, f.unix_millis("started_at").cast("string")),
                "duration_ms": f.unix_millis("ended_at") - f.unix_millis("started_at"),
                "has_conversion": f.col("purchases") > 0,
                "is_bounce": f.col("event_count") == 1,
            }
        )
        .select(*SESSION_COLUMNS, "stretch_ms", "any_first", "any_user_id", "any_entry_page", "any_exit_page")
    )
