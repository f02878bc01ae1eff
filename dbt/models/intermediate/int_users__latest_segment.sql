with

days as (

    select * from {{ ref('stg_lake__user_segments') }}

),

ranked as (

    select
        *,
        row_number() over (partition by user_id order by segment_date desc) as recency
    from days

),

latest as (

    select
        user_id,
        segment_date,
        segment_date::timestamp as segment_at,
        segment,
        recency_score,
        frequency_score,
        monetary_score
    from ranked
    where recency = 1

)

select * from latest
