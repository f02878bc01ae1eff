-- Sessions by device and country, as the batch added them up, are the sessions.
with

metrics as (

    select
        metric_date,
        device_type,
        country_code,
        sessions,
        revenue_cents
    from {{ ref('stg_lake__session_metrics_daily') }}

),

sessions as (

    select
        session_date,
        device_type,
        country_code,
        count(*) as sessions,
        sum(revenue_cents) as revenue_cents
    from {{ ref('fct_sessions') }}
    group by session_date, device_type, country_code

)

select
    coalesce(metrics.metric_date, sessions.session_date) as metric_date,
    metrics.sessions as metric_sessions,
    sessions.sessions as fact_sessions
from metrics
full outer join sessions
    on
        metrics.metric_date = sessions.session_date
        and metrics.device_type = sessions.device_type
        and coalesce(metrics.country_code, '') = coalesce(sessions.country_code, '')
where
    metrics.sessions is distinct from sessions.sessions
    or metrics.revenue_cents is distinct from sessions.revenue_cents
