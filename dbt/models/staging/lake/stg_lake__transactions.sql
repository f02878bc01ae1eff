with

source as (

    select * from {{ source('lake', 'transactions') }}

),

renamed as (

    select
        transaction_id as order_id,
        user_id,
        status,
        occurred_at as status_at,
        event_date as status_date,
        payment_method,
        currency,
        total_amount,
        order_items
    from source

)

select * from renamed
