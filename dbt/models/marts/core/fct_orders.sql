{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='order_id',
    on_schema_change='append_new_columns',
    indexes=[{'columns': ['order_id'], 'unique': true}, {'columns': ['user_id', 'placed_at']}, {'columns': ['placed_date']}],
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

newest_load as (

    select max(load_id) as load_id
    from {{ ref('stg_lake__loads') }}
    where table_name = 'transactions'

),

final as (

    select
        orders.order_id,
        orders.user_id,
        orders.placed_at,
        orders.placed_date,
        orders.status,
        orders.last_status_at,
        orders.last_status_date,
        orders.status_count,
        orders.is_cancelled,
        orders.payment_method,
        orders.currency,
        orders.total_amount,
        newest_load.load_id as built_from_load_id
    from orders
    cross join newest_load

)

select * from final
