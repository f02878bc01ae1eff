{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    indexes=[{'columns': ['session_date']}, {'columns': ['user_id', 'started_at']}],
    pre_hook=["{{ hold_loads() }}", "{{ forget_days('session_date', changed_days('sessions')) }}"],
    post_hook="{{ remember_loads(['sessions']) }}"
) }}

with

sessions as (

    select * from {{ ref('int_sessions__resolve_revisions') }}
    {% if is_incremental() %}
    where session_date = any(array({{ changed_days('sessions') }}))
    {% endif %}

)

select * from sessions
