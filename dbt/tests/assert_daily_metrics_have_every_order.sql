-- The orders that the batch counted are those that are not cancelled by now. A warning: one may be cancelled days later.
{{ config(severity='warn') }}

with

orders as (

    select
        placed_date,
        count(*) as orders
    from {{ ref('fct_orders') }}
    where not is_cancelled
    group by placed_date

)

select
    metrics.metric_date,
    metrics.orders as metric_orders,
    orders.orders as fact_orders
from {{ ref('fct_daily_metrics') }} as metrics
left join orders on metrics.metric_date = orders.placed_date
where metrics.orders <> coalesce(orders.orders, 0)
