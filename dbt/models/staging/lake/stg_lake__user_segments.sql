with

source as (

    select * from {{ source('lake', 'user_segments') }}

),

renamed as (

    select
        segment_date,
        user_id,
        recency_days,
        frequency_orders,
        monetary_cents,
        recency_score,
        frequency_score,
        monetary_score,
        segment
    from source

)

select * from renamed
