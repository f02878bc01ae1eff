{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    indexes=[{'columns': ['session_date']}],
    pre_hook=["{{ hold_loads() }}", "{{ forget_days('session_date', funnel_days()) }}"],
    post_hook="{{ remember_loads(['sessions', 'transactions']) }}"
) }}

with

sessions as (

    select * from {{ ref('int_sessions__reach_steps') }}
    {% if is_incremental() %}
    where session_date = any(array({{ funnel_days() }}))
    {% endif %}

),

counted as (

    select
        session_date,
        device_type,
        country_code,
        count(*) as sessions,
        count(*) filter (where has_reached_view) as view_sessions,
        count(*) filter (where has_reached_cart) as cart_sessions,
        count(*) filter (where has_reached_checkout) as checkout_sessions,
        count(*) filter (where has_reached_purchase) as purchase_sessions
    from sessions
    group by session_date, device_type, country_code

),

final as (

    select
        *,
        cart_sessions::double precision / nullif(view_sessions, 0) as view_to_cart_rate,
        checkout_sessions::double precision / nullif(cart_sessions, 0) as cart_to_checkout_rate,
        purchase_sessions::double precision / nullif(checkout_sessions, 0) as checkout_to_purchase_rate
    from counted

)

select * from final
