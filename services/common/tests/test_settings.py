import pytest

from millrace_common.errors import SettingsError
from millrace_common.failpoints import Aim, Failpoint
from millrace_common.settings import ServiceSettings, load

MINIMAL = {
    "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
    "SCHEMA_REGISTRY_URL": "http://registry:8081",
    "STATE_URI": "/var/lib/millrace",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for field in ServiceSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for name, value in MINIMAL.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_three_variables_are_enough(environment: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)
    assert settings.kafka_client() == {"bootstrap.servers": "broker:9092", "security.protocol": "PLAINTEXT"}
    assert settings.schema_registry_client() == {"url": "http://registry:8081"}


def test_all_mistakes_are_named_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("STATE_URI")
    environment.setenv("METRICS_PORT", "70000")
    environment.setenv("BRAKE_LIMIT", "0")
    environment.setenv("GROUP_PROTOCOL", "share")
    environment.setenv("COMMIT_INTERVAL_SECONDS", "soon")
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    lines = str(caught.value).splitlines()[1:]
    named = {line.split(":")[0].strip() for line in lines}
    assert named == {"STATE_URI", "METRICS_PORT", "BRAKE_LIMIT", "GROUP_PROTOCOL", "COMMIT_INTERVAL_SECONDS"}


def test_secrets_are_never_printed_but_reach_the_client(environment: pytest.MonkeyPatch) -> None:
    secrets = ("opensesame-sasl", "opensesame-key", "opensesame-registry")
    environment.setenv("KAFKA_SASL_PASSWORD", secrets[0])
    environment.setenv("KAFKA_SSL_KEY_PASSWORD", secrets[1])
    environment.setenv("SCHEMA_REGISTRY_USERNAME", "reader")
    environment.setenv("SCHEMA_REGISTRY_PASSWORD", secrets[2])
    settings = load(ServiceSettings)
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "opensesame" not in shown
    assert settings.kafka_client()["sasl.password"] == secrets[0]
    assert settings.kafka_client()["ssl.key.password"] == secrets[1]
    assert settings.schema_registry_client()["basic.auth.user.info"] == f"reader:{secrets[2]}"


def test_a_mistake_does_not_print_what_was_given(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_SECURITY_PROTOCOL", "opensesame")
    environment.setenv("BATCH_MAX_RECORDS", "opensesame")
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings)
    assert "opensesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_security_settings_pass_through_as_librdkafka_spells_them(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    environment.setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    environment.setenv("KAFKA_SASL_USERNAME", "millrace")
    environment.setenv("KAFKA_SSL_CA_LOCATION", "/etc/ca.pem")
    client = load(ServiceSettings).kafka_client()
    assert client["security.protocol"] == "SASL_SSL"
    assert client["sasl.mechanism"] == "SCRAM-SHA-512"
    assert client["sasl.username"] == "millrace"
    assert client["ssl.ca.location"] == "/etc/ca.pem"


def test_no_failpoint_is_set_unless_it_is_named(environment: pytest.MonkeyPatch) -> None:
    assert load(ServiceSettings).failpoint is None
    environment.setenv("FAILPOINT", "send_offsets.before:4")
    assert load(ServiceSettings).failpoint == Aim(Failpoint.SEND_OFFSETS_BEFORE, 4)


def test_an_unknown_failpoint_is_refused_with_those_there_are(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FAILPOINT", "nowhere:4")
    with pytest.raises(SettingsError, match=r"FAILPOINT: .*no such failpoint; there are produce\.before"):
        load(ServiceSettings)


def test_an_empty_variable_counts_as_not_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("INSTANCE", "")
    assert load(ServiceSettings).instance == "0"


def test_a_lane_is_behind_every_name(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LANE", "backfill")
    environment.setenv("INSTANCE", "7")
    settings = load(ServiceSettings)
    assert settings.topic("user-events") == "user-events.backfill"
    assert settings.group("ingest") == "millrace-ingest.backfill"
    assert settings.transactional_id("ingest") == "ingest-7.backfill"


def test_the_live_lane_has_plain_names(environment: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)
    assert settings.topic("user-events") == "user-events"
    assert settings.group("ingest") == "millrace-ingest"
    assert settings.transactional_id("ingest") == "ingest-0"


def test_settings_cannot_be_changed(environment: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.instance = "9"
