-- The day's figures that the batch computed are those of the day's sessions.
with

sessions as (

    select
        session_date,
        count(*) as sessions
    from {{ ref('fct_sessions') }}
    group by session_date

)

select
    coalesce(metrics.metric_date, sessions.session_date) as metric_date,
    metrics.sessions as metric_sessions,
    sessions.sessions as fact_sessions
from {{ ref('fct_daily_metrics') }} as metrics
full outer join sessions on metrics.metric_date = sessions.session_date
where metrics.sessions is distinct from sessions.sessions
