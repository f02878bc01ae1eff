{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='order_id',
    on_schema_change='append_new_columns',
    indexes=[{'columns': ['order_id', 'line_number'], 'unique': true}, {'columns': ['product_id', 'placed_date']}],
    pre_hook=["{{ hold_loads() }}", "{{ forget_vanished_orders() }}"],
    post_hook="{{ remember_loads(['transactions']) }}"
) }}

with

orders as (

    select * from {{ ref('int_orders__resolve_statuses') }}
    {% if is_incremental() %}
    where order_id = any(array({{ touched_orders() }}))
    {% endif %}

),

lines as (

    select
        orders.order_id,
        item.line_number,
        orders.placed_date,
        orders.last_status_date,
        orders.is_cancelled,
        orders.currency,
        item.value ->> 'product_id' as product_id,
        item.value ->> 'category' as category,
        (item.value ->> 'quantity')::bigint as quantity,
        (item.value ->> 'price')::numeric(18, 2) as unit_price
    from orders
    cross join lateral jsonb_array_elements(orders.order_items) with ordinality as item (value, line_number)

),

final as (

    select
        *,
        (quantity * unit_price)::numeric(18, 2) as line_amount
    from lines

)

select * from final
