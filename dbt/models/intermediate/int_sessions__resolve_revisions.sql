with

sessions as (

    select * from {{ ref('stg_lake__sessions') }}

),

-- All revisions of a session are in one day; naming it lets a filter on days through the window. Not row_number: sessions
-- that max_events cut in the same millisecond share an id and a revision (docs/adr/0005).
ranked as (

    select
        *,
        rank() over (partition by session_date, session_id order by revision desc) as recency
    from sessions

),

-- A session that the batch found to be another one ends with a revision that only says so.
resolved as (

    select
        session_id,
        session_date,
        client_session_id,
        user_id,
        started_at,
        ended_at,
        duration_ms,
        event_count,
        page_views,
        clicks,
        searches,
        add_to_carts,
        purchases,
        unique_pages,
        unique_products,
        revenue_cents,
        has_conversion,
        is_bounce,
        entry_page,
        exit_page,
        referrer,
        device_type,
        country_code,
        is_bot,
        closed_by,
        revision
    from ranked
    where recency = 1 and closed_by <> 'replaced'

)

select * from resolved
