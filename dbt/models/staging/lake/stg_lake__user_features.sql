with

source as (

    select * from {{ source('lake', 'user_features') }}

),

renamed as (

    select
        feature_date,
        user_id,
        avg_session_duration_ms,
        total_page_views_7d,
        total_purchases_30d,
        avg_order_value_cents,
        preferred_category,
        device_type,
        last_activity_days_ago,
        churn_risk_score
    from source

)

select * from renamed
