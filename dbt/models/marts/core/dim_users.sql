with

sessions as (

    select
        user_id,
        min(session_date) as first_session_date,
        max(session_date) as last_session_date,
        count(*) as sessions
    from {{ ref('fct_sessions') }}
    where user_id is not null
    group by user_id

),

orders as (

    select
        user_id,
        min(placed_date) as first_order_date,
        count(*) filter (where not is_cancelled) as orders
    from {{ ref('fct_orders') }}
    group by user_id

),

segments as (

    select * from {{ ref('user_segment_periods') }}
    where dbt_valid_to is null

),

features as (

    select * from {{ ref('int_users__latest_features') }}

),

users as (

    select user_id from sessions
    union
    select user_id from orders
    union
    select user_id from segments
    union
    select user_id from features

),

final as (

    select
        users.user_id,
        sessions.first_session_date,
        sessions.last_session_date,
        coalesce(sessions.sessions, 0) as sessions,
        orders.first_order_date,
        coalesce(orders.orders, 0) as orders,
        segments.segment,
        segments.dbt_valid_from::date as segment_since,
        features.preferred_category,
        features.churn_risk_score
    from users
    left join sessions on users.user_id = sessions.user_id
    left join orders on users.user_id = orders.user_id
    left join segments on users.user_id = segments.user_id
    left join features on users.user_id = features.user_id

)

select * from final
