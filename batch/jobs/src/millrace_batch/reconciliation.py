"""Where the stream's sessions of a day differ from the true ones, why, and what to write about it."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from millrace_batch.session_events import KEY, SUMS
from millrace_batch.session_rules import SessionRules
from millrace_batch.session_truth import OF_FIRST_EVENT, SESSION_COLUMNS

REPLACED: Final = "replaced"
"""closed_by of a session's last revision when the events do not make a session of that id any more."""

UNEXPLAINED: Final = "unexplained"

RECONCILIATION_COLUMNS: Final = (
    *("session_date", "session_id", KEY, "cause", "detail", "stream_revision", "batch_revision"),
    *("stream_event_count", "batch_event_count", "stream_revenue_cents", "batch_revenue_cents"),
)

_TIED: Final = ("user_id", "entry_page", "exit_page")
_EXACT: Final = tuple(
    name for name in SESSION_COLUMNS if name not in {"session_id", KEY, "duration_ms", *OF_FIRST_EVENT, *_TIED}
)


@dataclass(frozen=True, slots=True)
class Period:
    """What is judged.

    Attributes:
        day: sessions that start on this UTC day.
        first_ms: the events read begin here.
        end_ms: and end before here.
        horizon_ms: whatever could still join a session that was over by then has been counted by the stream.
    """

    day: date
    first_ms: int
    end_ms: int
    horizon_ms: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is compared.

    Attributes:
        rows: see `session_events.stretches`.
        stretches: see `session_truth.summed_stretches`.
        truth: see `session_truth.true_sessions`.
        sessions: table sessions, of all days that the events are of.
    """

    rows: DataFrame
    stretches: DataFrame
    truth: DataFrame
    sessions: DataFrame


def judged_sessions(known: Known, period: Period, rules: SessionRules) -> DataFrame:
    """Return the sessions of the day that are judged and of which the stream, or the table now, differs from the truth.

    Returns:
        A row a session and occurrence (a session cut by max_events and the next share an id if they begin in one
        millisecond): session_id, client_session_id, truth, stream, current: structs of the session, null where it has
        none; stream_differs, current_differs; cause, detail.
    """
    placed = _placed(known)
    stream = placed.filter("revision = 1")
    of_id = Window.partitionBy("session_id")
    current = (
        placed.withColumn("_last", f.max("revision").over(of_id))
        .filter(f"revision = _last and closed_by <> '{REPLACED}'")
        .drop("_last")
    )
    last = placed.groupBy("session_id").agg(f.max("revision").alias("last_revision"))
    compared = (
        _numbered(known.truth, "truth")
        .join(_numbered(stream, "stream"), ["session_id", "number"], "full")
        .join(_numbered(current, "current"), ["session_id", "number"], "full")
        .withColumns({"stream_differs": ~_agrees("stream"), "current_differs": ~_agrees("current")})
        .withColumns({name: _any(name) for name in (KEY, "stretch_ms", "started_at")})
    )
    verdicts = _verdicts(known.stretches, compared, _split_by_watermark(stream, known, rules), period, rules)
    return (
        compared.filter(f.to_date("started_at") == f.lit(period.day))
        .filter("stream_differs or current_differs")
        .join(verdicts, [KEY, "stretch_ms"], "left")
        .join(last, ["session_id"], "left")
        # A session of the stream without any event is in no stretch.
        .filter(f.coalesce("is_judged", f.lit(True)))
        .withColumns(
            {
                "cause": f.coalesce("cause", f.lit(UNEXPLAINED)),
                "detail": f.coalesce("detail", f.lit("no event of it is in table events")),
            }
        )
    )


def corrections(judged: DataFrame, sessions: DataFrame, truth: DataFrame, period: Period) -> DataFrame:
    """Return the revisions to write, as rows of table `sessions`: none about what is unexplained.

    A session that the truth has gets its true fields. One that it does not know gets a last revision with closed_by
    `replaced` and nothing in it.
    """
    wrong = (
        judged.filter((f.col("cause") != UNEXPLAINED) & f.col("current_differs"))
        .groupBy("session_id")
        .agg((f.coalesce(f.max("last_revision"), f.lit(1)) + 1).alias("_next"))
    )
    day = f.lit(period.day)
    right = (
        truth.filter(f.to_date("started_at") == day)
        .join(wrong, "session_id")
        .withColumns({"revision": f.col("_next"), "session_date": day})
    )
    zero = {name: f.lit(0) for name in ("duration_ms", "unique_pages", "unique_products", *SUMS)}
    of_id = Window.partitionBy("session_id").orderBy(f.desc("revision"), "ended_at")
    gone = (
        sessions.filter(f.col("session_date") == day)
        .join(wrong, "session_id")
        .join(truth.select("session_id"), "session_id", "left_anti")
        .withColumn("_row", f.row_number().over(of_id))
        .filter("_row = 1")
        .withColumns(
            {
                **zero,
                **{name: f.lit(False) for name in ("has_conversion", "is_bounce")},
                "ended_at": f.col("started_at"),
                "closed_by": f.lit(REPLACED),
                "revision": f.col("_next"),
            }
        )
    )
    columns = [f.col(field.name).cast(field.dataType).alias(field.name) for field in sessions.schema]
    return right.select(*columns).unionByName(gone.select(*columns))


def differences(judged: DataFrame, period: Period) -> DataFrame:
    """Return RECONCILIATION_COLUMNS of what the stream has otherwise than the truth.

    batch_revision is the one that holds the truth, null if none was written; batch counts are null where the truth does
    not know the session, stream counts where the stream does not.
    """
    written = f.coalesce("last_revision", f.lit(1)) + f.when(f.col("current_differs"), 1).otherwise(0)
    return judged.filter("stream_differs").select(
        f.lit(period.day).alias("session_date"),
        "session_id",
        KEY,
        "cause",
        "detail",
        f.col("stream.revision").alias("stream_revision"),
        f.when(f.col("cause") != UNEXPLAINED, written).cast("int").alias("batch_revision"),
        f.col("stream.event_count").alias("stream_event_count"),
        f.col("truth.event_count").alias("batch_event_count"),
        f.col("stream.revenue_cents").alias("stream_revenue_cents"),
        f.col("truth.revenue_cents").alias("batch_revenue_cents"),
    )


def _placed(known: Known) -> DataFrame:
    """Return the table's sessions, each with the stretch that it lies in; null if there is none."""
    bounds = known.stretches.select(KEY, "stretch_ms", "stretch_end_ms")
    started_ms = f.unix_millis("started_at")
    return (
        known.sessions.alias("s")
        .join(
            bounds.alias("b"),
            (f.col(f"s.{KEY}") == f.col(f"b.{KEY}")) & started_ms.between(f.col("stretch_ms"), f.col("stretch_end_ms")),
            "left",
        )
        .select("s.*", "stretch_ms")
    )


def _numbered(sessions: DataFrame, name: str) -> DataFrame:
    """Return session_id, its occurrence, and the session as a struct called `name`."""
    order = Window.partitionBy("session_id").orderBy("ended_at", "event_count", "revenue_cents", "closed_by")
    return sessions.select(
        "session_id", f.row_number().over(order).alias("number"), f.struct(*sessions.columns).alias(name)
    )


def _agrees(name: str) -> Column:
    """Say whether session `name` is the true one, or both are not there; ties may go either way."""
    here = f.col(name)
    truth = f.col("truth")
    same = f.lit(True)
    for column in _EXACT:
        same &= here[column].eqNullSafe(truth[column])
    for column in _TIED:
        any_of = truth[f"any_{column}"]
        same &= f.when(here[column].isNull(), f.size(any_of) == 0).otherwise(f.array_contains(any_of, here[column]))
    first = f.struct(*(here[column].alias(column) for column in OF_FIRST_EVENT))
    same &= f.exists(truth["any_first"], lambda one: one.eqNullSafe(first))
    return f.when(here.isNull() | truth.isNull(), here.isNull() & truth.isNull()).otherwise(same)


def _any(column: str) -> Column:
    return f.coalesce(*(f.col(name)[column] for name in ("truth", "stream", "current")))


def _split_by_watermark(stream: DataFrame, known: Known, rules: SessionRules) -> DataFrame:
    """Return the stretches that the stream split, and whether the watermark may have done it.

    A session that ends at e takes events up to e + gap as long as the watermark is not past that. The watermark is at
    most where the clock is: ingest refuses events that are further ahead of it than the allowed lateness. So an event
    that begins another session in spite of being near must have been received after e + gap.

    Returns:
        client_session_id, stretch_ms, is_explained.
    """
    following = Window.partitionBy(KEY, "stretch_ms").orderBy("started_at", "ended_at")
    ended_ms = f.unix_millis("ended_at")
    borders = (
        stream.withColumns({"_next_ms": f.unix_millis(f.lead("started_at").over(following)), "_over_ms": ended_ms})
        .filter(f.col("_next_ms") - f.col("_over_ms") <= rules.gap_ms)
        .select(KEY, "stretch_ms", "_next_ms", "_over_ms")
    )
    events = known.rows.select(KEY, f.col("time_ms").alias("_next_ms"), "received_ms")
    is_behind = f.max("received_ms") > f.col("_over_ms") + rules.gap_ms
    return (
        borders.join(events, [KEY, "_next_ms"], "left")
        .groupBy(KEY, "stretch_ms", "_next_ms", "_over_ms")
        .agg(f.coalesce(is_behind, f.lit(False)).alias("_is_behind"))
        .groupBy(KEY, "stretch_ms")
        .agg(f.bool_and("_is_behind").alias("is_explained"))
    )


def _verdicts(
    stretches: DataFrame, compared: DataFrame, splits: DataFrame, period: Period, rules: SessionRules
) -> DataFrame:
    """Return of each stretch whether it is judged, and the cause of every difference in it."""
    has_stream = f.col("stream").isNotNull()
    counted = compared.groupBy(KEY, "stretch_ms").agg(
        f.struct(*(f.sum(f"stream.{name}").alias(name) for name in SUMS)).alias("counted"),
        f.count_if(has_stream & f.col("stream_differs")).alias("differing"),
    )
    balances = f.lit(True)
    for name in SUMS:
        balances &= f.coalesce(f.col("counted")[name], f.lit(0)) == f.coalesce(f.col("seen")[name], f.lit(0))
    is_less = f.coalesce(f.col("counted.event_count"), f.lit(0)) < f.coalesce(f.col("seen.event_count"), f.lit(0))
    # A runaway key that is active all the time: where its first cut is, only events before those read can tell.
    is_whole = ~f.col("reaches_limit") | (
        (f.col("stretch_ms") > period.first_ms + rules.gap_ms)
        & (f.col("stretch_end_ms") + rules.gap_ms < period.end_ms)
    )
    is_over = f.col("stretch_end_ms") + rules.gap_ms < period.horizon_ms
    cause = (
        f.when(balances & (f.col("late_rows") > 0), "late")
        .when(balances & (f.col("copies") > 0), "duplicate")
        .when(balances & f.col("reaches_limit"), "cut")
        .when(balances & f.col("is_explained"), "late")
        .when(~balances & (f.col("differing") == 0) & is_less, "missing")
        .otherwise(UNEXPLAINED)
    )
    detail = f.concat_ws(
        ", ",
        f.when(f.col("late_rows") > 0, f.concat("late_rows", f.lit(" late"))),
        f.when(f.col("copies") > 0, f.concat("copies", f.lit(" counted again"))),
        f.when(f.col("reaches_limit"), f.lit("reaches a limit")),
        f.when(f.col("is_explained"), f.lit("the watermark was past the session when its next event came")),
        # A limit splits too, and needs no watermark for it.
        f.when(~f.col("is_explained") & ~f.col("reaches_limit"), f.lit("split, but its events came in time")),
        f.when(
            ~balances,
            f.format_string(
                "the stream counted %d of %d events and %d of %d cents",
                *(
                    f.coalesce(f.col(side)[name], f.lit(0)).cast("long")
                    for name in ("event_count", "revenue_cents")
                    for side in ("counted", "seen")
                ),
            ),
        ),
    )
    return (
        stretches.join(counted, [KEY, "stretch_ms"], "left")
        .join(splits, [KEY, "stretch_ms"], "left")
        .select(
            KEY,
            "stretch_ms",
            (is_whole & (balances | is_over)).alias("is_judged"),
            cause.alias("cause"),
            f.when(detail == "", "same counts, other fields").otherwise(detail).alias("detail"),
        )
    )
