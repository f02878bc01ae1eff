-- The funnel was computed again for every day of which the sessions changed.
with

funnel as (

    select
        session_date,
        sum(sessions) as sessions,
        sum(purchase_sessions) as purchase_sessions
    from {{ ref('mart_funnel') }}
    group by session_date

),

sessions as (

    select
        session_date,
        count(*) as sessions,
        count(*) filter (where has_conversion) as purchase_sessions
    from {{ ref('fct_sessions') }}
    group by session_date

)

select
    coalesce(funnel.session_date, sessions.session_date) as session_date,
    funnel.sessions as funnel_sessions,
    sessions.sessions as fact_sessions
from funnel
full outer join sessions on funnel.session_date = sessions.session_date
where
    funnel.sessions is distinct from sessions.sessions
    or funnel.purchase_sessions is distinct from sessions.purchase_sessions
