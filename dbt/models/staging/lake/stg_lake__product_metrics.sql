with

source as (

    select * from {{ source('lake', 'product_metrics') }}

),

renamed as (

    select
        metric_date,
        product_id,
        product_category,
        product_brand,
        views,
        clicks,
        add_to_carts,
        purchases,
        revenue_cents,
        unique_users,
        view_to_cart_rate,
        cart_to_purchase_rate
    from source

)

select * from renamed
