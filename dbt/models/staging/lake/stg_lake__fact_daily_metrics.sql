with

source as (

    select * from {{ source('lake', 'fact_daily_metrics') }}

),

renamed as (

    select
        metric_date,
        daily_active_users,
        sessions,
        orders,
        revenue_cents,
        conversion_rate,
        average_order_value_cents,
        average_duration_ms,
        bounce_rate,
        events
    from source

)

select * from renamed
