with

source as (

    select * from {{ source('lake', 'late_event_counts') }}

),

renamed as (

    select
        event_date,
        late_events
    from source

)

select * from renamed
