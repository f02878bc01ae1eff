with

statuses as (

    select * from {{ ref('stg_lake__transactions') }}

),

-- Of two statuses in the same millisecond, the one that settles the order comes after the pending one.
ranked as (

    select
        *,
        row_number() over (
            partition by order_id order by status_at desc, (status = 'pending') asc, status asc, total_amount asc
        ) as recency,
        min(status_at) over (partition by order_id) as placed_at,
        min(status_date) over (partition by order_id) as placed_date,
        count(*) over (partition by order_id) as status_count
    from statuses

),

resolved as (

    select
        order_id,
        user_id,
        placed_at,
        placed_date,
        status,
        status_at as last_status_at,
        status_date as last_status_date,
        status_count,
        status = 'cancelled' as is_cancelled,
        payment_method,
        currency,
        total_amount,
        order_items
    from ranked
    where recency = 1

)

select * from resolved
