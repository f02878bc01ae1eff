with

source as (

    select * from {{ source('lake', 'reconciliation') }}

),

renamed as (

    select
        session_date,
        session_id,
        client_session_id,
        cause,
        detail,
        stream_revision,
        batch_revision,
        stream_event_count,
        batch_event_count,
        stream_revenue_cents,
        batch_revenue_cents
    from source

)

select * from renamed
