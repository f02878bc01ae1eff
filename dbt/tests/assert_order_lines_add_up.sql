-- An order costs what its lines cost: to a cent, as ingest allows, and half a cent a piece, by which prices were rounded.
with

lines as (

    select
        order_id,
        sum(line_amount) as line_amount,
        sum(quantity) as quantity
    from {{ ref('fct_order_items') }}
    group by order_id

)

select
    orders.order_id,
    orders.total_amount,
    lines.line_amount
from {{ ref('fct_orders') }} as orders
left join lines on orders.order_id = lines.order_id
where (abs(orders.total_amount - lines.line_amount) <= 0.01 + 0.005 * lines.quantity) is not true
