{#
    The days of sessions that the funnel is computed again for: those that were loaded since, and those around orders that were
    built since. A session may begin the day before its order is placed.
#}
{% macro funnel_days() -%}
    {{ changed_days('sessions') }}
    union
    select changed.load_date - before.days
    from ({{ changed_days('transactions') }}) as changed
    cross join (values (0), (1)) as before (days)
    union
    select orders.placed_date - before.days
    from {{ ref('fct_orders') }} as orders
    cross join (values (0), (1)) as before (days)
    where
        orders.built_from_load_id > (
            select coalesce(max(applied.load_id), 0)
            from {{ applied_loads() }} as applied
            where applied.model_name = '{{ this.identifier }}' and applied.table_name = 'transactions'
        )
{%- endmacro %}
