import pytest

from millrace_common.errors import RegistryUnavailableError
from millrace_local.ports import free_port
from millrace_local.schemas import check, client, declared, differences


def test_a_new_field_without_default_is_named() -> None:
    old = {"fields": [{"name": "a", "type": "string"}]}
    new = {"fields": [*old["fields"], {"name": "b", "type": "int"}, {"name": "c", "type": "int", "default": 0}]}
    assert differences(old, new) == ["new field b has no default"]


def test_a_field_of_another_type_is_named() -> None:
    old, new = ({"fields": [{"name": "a", "type": kind}]} for kind in ("string", "int"))
    assert differences(old, new) == ["field a has another type"]


def test_a_registry_that_does_not_answer_is_said() -> None:
    with pytest.raises(RegistryUnavailableError, match="did not answer"):
        check(client(f"http://127.0.0.1:{free_port()}", {"max.retries": 0}), declared())
