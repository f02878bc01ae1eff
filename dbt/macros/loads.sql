{#
    Which days an incremental model has to compute again.

    `applied_loads` keeps, for each incremental model and each day of each table, the load that the model has seen. A day whose
    newest load is another one is to be computed again. That is looked up from what is there: a build that failed, was
    skipped, or ran twice leaves nothing to repair. A model writes it in the transaction that writes its rows.
#}

{% macro applied_loads() -%}
    marts.applied_loads
{%- endmacro %}


{% macro create_applied_loads() %}
    create schema if not exists marts;
    create table if not exists {{ applied_loads() }} (
        model_name text not null,
        table_name text not null,
        load_date date not null,
        load_id bigint not null,
        primary key (model_name, table_name, load_date)
    )
{% endmacro %}


{# Pre-hook: no load is committed until the model is, so that all its statements see the same ones. #}
{% macro hold_loads() %}
    lock table {{ source('lake', 'loads') }} in share mode
{% endmacro %}


{# A query of the days of one table of the lake that were loaded since this model was last built. #}
{% macro changed_days(table_name) -%}
    select newest.load_date
    from {{ ref('stg_lake__loads') }} as newest
    left join {{ applied_loads() }} as applied
        on
            newest.table_name = applied.table_name
            and newest.load_date = applied.load_date
            and applied.model_name = '{{ this.identifier }}'
    where newest.table_name = '{{ table_name }}' and newest.load_id is distinct from applied.load_id
{%- endmacro %}


{# Post-hook: remember the loads that this model now has. #}
{% macro remember_loads(table_names) %}
    insert into {{ applied_loads() }} (model_name, table_name, load_date, load_id)
    select
        '{{ this.identifier }}' as model_name,
        table_name,
        load_date,
        load_id
    from {{ ref('stg_lake__loads') }}
    where table_name in ('{{ table_names | join("', '") }}')
    on conflict (model_name, table_name, load_date) do update set load_id = excluded.load_id
{% endmacro %}


{# Pre-hook of a model that has its rows by day: forget the days that are computed again, also those with no row any more. #}
{% macro forget_days(day_column, days) %}
    {% if is_incremental() %}
        delete from {{ this }} where {{ day_column }} in ({{ days }})
    {% endif %}
{% endmacro %}
