with

metrics as (

    select * from {{ ref('stg_lake__product_metrics') }}

),

ordered as (

    select
        placed_date,
        product_id,
        count(distinct order_id) as orders,
        sum(quantity)::bigint as ordered_units
    from {{ ref('fct_order_items') }}
    where not is_cancelled
    group by placed_date, product_id

),

final as (

    select
        coalesce(metrics.metric_date, ordered.placed_date) as metric_date,
        coalesce(metrics.product_id, ordered.product_id) as product_id,
        coalesce(metrics.views, 0) as views,
        coalesce(metrics.clicks, 0) as clicks,
        coalesce(metrics.add_to_carts, 0) as add_to_carts,
        coalesce(metrics.purchases, 0) as purchases,
        coalesce(metrics.unique_users, 0) as unique_users,
        coalesce(metrics.revenue_cents, 0) as revenue_cents,
        metrics.view_to_cart_rate,
        metrics.cart_to_purchase_rate,
        coalesce(ordered.orders, 0) as orders,
        coalesce(ordered.ordered_units, 0) as ordered_units
    from metrics
    full outer join ordered
        on metrics.metric_date = ordered.placed_date and metrics.product_id = ordered.product_id

)

select * from final
