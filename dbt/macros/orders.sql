{#
    The statuses of an order lie in the days they were reached. An order is built again if a status of it lies in a day that
    was loaded since, or may have lain there: a day from its first to its last status.
#}

{% macro touched_orders() -%}
    select statuses.order_id
    from {{ ref('stg_lake__transactions') }} as statuses
    where statuses.status_date in ({{ changed_days('transactions') }})
    union
    select built.order_id
    from {{ this }} as built
    where
        exists (
            select 1
            from ({{ changed_days('transactions') }}) as changed
            where changed.load_date between built.placed_date and built.last_status_date
        )
{%- endmacro %}


{# Pre-hook: orders without any status left go; the others are replaced. #}
{% macro forget_vanished_orders() %}
    {# Outside of the condition: dbt learns from it that the model depends on it. #}
    {% set statuses = ref('stg_lake__transactions') %}
    {% if is_incremental() %}
        delete from {{ this }}
        where
            order_id in ({{ touched_orders() }})
            and not exists (
                select 1 from {{ statuses }} as statuses where statuses.order_id = {{ this }}.order_id
            )
    {% endif %}
{% endmacro %}
