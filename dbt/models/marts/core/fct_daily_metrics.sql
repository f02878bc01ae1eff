with

metrics as (

    select * from {{ ref('stg_lake__fact_daily_metrics') }}

),

late as (

    select * from {{ ref('stg_lake__late_event_counts') }}

),

differences as (

    select
        session_date,
        count(*) as differences,
        count(*) filter (where cause = 'unexplained') as unexplained_differences
    from {{ ref('stg_lake__reconciliation') }}
    group by session_date

),

final as (

    select
        metrics.metric_date,
        metrics.daily_active_users,
        metrics.sessions,
        metrics.events,
        metrics.orders,
        metrics.revenue_cents,
        metrics.conversion_rate,
        metrics.average_order_value_cents,
        metrics.average_duration_ms,
        metrics.bounce_rate,
        coalesce(late.late_events, 0) as late_events,
        coalesce(differences.differences, 0) as differences,
        coalesce(differences.unexplained_differences, 0) as unexplained_differences
    from metrics
    left join late on metrics.metric_date = late.event_date
    left join differences on metrics.metric_date = differences.session_date

)

select * from final
