with

loaded as (

    select
        min(load_date) as first_date,
        max(load_date) as last_date
    from {{ ref('stg_lake__loads') }}

),

days as (

    select series.day::date as date_day
    from loaded
    cross join lateral generate_series(loaded.first_date, loaded.last_date, interval '1 day') as series (day)

),

final as (

    select
        date_day,
        date_trunc('week', date_day)::date as week_start,
        date_trunc('month', date_day)::date as month_start,
        extract(year from date_day)::integer as calendar_year,
        extract(month from date_day)::integer as month_number,
        extract(isodow from date_day)::integer as iso_weekday,
        extract(isodow from date_day) >= 6 as is_weekend
    from days

)

select * from final
