with

days as (

    select * from {{ ref('stg_lake__user_features') }}

),

ranked as (

    select
        *,
        row_number() over (partition by user_id order by feature_date desc) as recency
    from days

),

latest as (

    select
        user_id,
        feature_date,
        preferred_category,
        device_type,
        churn_risk_score
    from ranked
    where recency = 1

)

select * from latest
