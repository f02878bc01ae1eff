with

source as (

    select * from {{ source('lake', 'loads') }}

),

newest as (

    select
        table_name,
        load_date,
        max(load_id) as load_id,
        max(loaded_at) as loaded_at
    from source
    group by table_name, load_date

)

select * from newest
