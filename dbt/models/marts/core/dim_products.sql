with

metrics as (

    select * from {{ ref('stg_lake__product_metrics') }}

),

ranked as (

    select
        product_id,
        product_category,
        product_brand,
        metric_date,
        row_number() over (partition by product_id order by metric_date desc) as recency,
        min(metric_date) over (partition by product_id) as first_seen_date
    from metrics

),

seen as (

    select * from ranked
    where recency = 1

),

ordered as (

    select
        product_id,
        min(placed_date) as first_ordered_date
    from {{ ref('fct_order_items') }}
    group by product_id

),

final as (

    select
        coalesce(seen.product_id, ordered.product_id) as product_id,
        seen.product_category,
        seen.product_brand,
        seen.first_seen_date,
        seen.metric_date as last_seen_date,
        ordered.first_ordered_date
    from seen
    full outer join ordered on seen.product_id = ordered.product_id

)

select * from final
