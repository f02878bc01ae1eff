with

sessions as (

    select * from {{ ref('fct_sessions') }}

),

orders as (

    select * from {{ ref('fct_orders') }}

),

-- A session is open from its first event until 30 minutes after its last: the gap that closes it.
observed as (

    select
        sessions.session_id,
        sessions.session_date,
        sessions.device_type,
        sessions.country_code,
        sessions.page_views > 0 as has_view,
        sessions.add_to_carts > 0 as has_cart,
        exists(
            select 1
            from orders
            where
                orders.user_id = sessions.user_id
                and orders.placed_at between sessions.started_at and sessions.ended_at + interval '30 minutes'
        ) as has_order,
        sessions.has_conversion as has_purchase
    from sessions

),

-- Who took a step has passed those before it, whether or not the shop saw them.
reached as (

    select
        session_id,
        session_date,
        device_type,
        country_code,
        has_view or has_cart or has_order or has_purchase as has_reached_view,
        has_cart or has_order or has_purchase as has_reached_cart,
        has_order or has_purchase as has_reached_checkout,
        has_purchase as has_reached_purchase
    from observed

)

select * from reached
