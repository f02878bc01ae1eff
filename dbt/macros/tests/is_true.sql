{# Every row fulfils the condition; null counts as broken. #}
{% test is_true(model, condition) %}
    select * from {{ model }} where ({{ condition }}) is not true
{% endtest %}
