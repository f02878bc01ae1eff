with

source as (

    select * from {{ source('lake', 'sessions') }}

),

renamed as (

    select
        session_date,
        session_id,
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
    from source

)

select * from renamed
