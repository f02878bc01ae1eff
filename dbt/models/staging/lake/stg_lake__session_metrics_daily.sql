with

source as (

    select * from {{ source('lake', 'session_metrics_daily') }}

),

renamed as (

    select
        metric_date,
        device_type,
        country_code,
        sessions,
        bounces,
        conversions,
        revenue_cents,
        average_duration_ms,
        events
    from source

)

select * from renamed
