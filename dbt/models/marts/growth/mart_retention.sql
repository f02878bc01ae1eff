with

sessions as (

    select
        user_id,
        session_date
    from {{ ref('fct_sessions') }}
    where user_id is not null and not is_bot

),

weeks_active as (

    select distinct
        user_id,
        date_trunc('week', session_date)::date as active_week
    from sessions

),

cohorts as (

    select
        user_id,
        min(active_week) as cohort_week
    from weeks_active
    group by user_id

),

cohort_sizes as (

    select
        cohort_week,
        count(*) as cohort_users
    from cohorts
    group by cohort_week

),

last_week as (

    select max(active_week) as last_week
    from weeks_active

),

-- Also the weeks in which nobody came back.
periods as (

    select
        cohort_sizes.cohort_week,
        cohort_sizes.cohort_users,
        series.weeks_since::bigint as weeks_since
    from cohort_sizes
    cross join last_week
    cross join lateral generate_series(
        0, (last_week.last_week - cohort_sizes.cohort_week) / 7
    ) as series (weeks_since)

),

returned as (

    select
        cohorts.cohort_week,
        ((weeks_active.active_week - cohorts.cohort_week) / 7)::bigint as weeks_since,
        count(*) as active_users
    from weeks_active
    inner join cohorts on weeks_active.user_id = cohorts.user_id
    group by cohorts.cohort_week, weeks_since

),

final as (

    select
        periods.cohort_week,
        periods.weeks_since,
        periods.cohort_users,
        coalesce(returned.active_users, 0) as active_users,
        coalesce(returned.active_users, 0)::double precision / periods.cohort_users as retention_rate
    from periods
    left join returned
        on periods.cohort_week = returned.cohort_week and periods.weeks_since = returned.weeks_since

)

select * from final
