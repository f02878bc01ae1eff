from millrace_local.pins import DELTA_VERSION, KAFKA_VERSION, REGISTRY_VERSION, SLF4J_VERSION, parse, pinned, render


def test_pins_are_those_of_the_named_versions() -> None:
    jars = {pin.artifact: pin for pin in pinned("kafka")}
    assert jars["kafka_2.13"].version == KAFKA_VERSION
    assert jars["slf4j-simple"].version == SLF4J_VERSION
    assert len(jars) == 46
    (archive,) = pinned("registry")
    assert archive.version == REGISTRY_VERSION
    assert archive.file_name == f"apicurio-registry-app-{REGISTRY_VERSION}-all.tar.gz"


def test_delta_for_spark_is_two_jars_of_one_version() -> None:
    assert [(pin.artifact, pin.version) for pin in pinned("spark")] == [
        ("delta-spark_4.2_2.13", DELTA_VERSION),
        ("delta-storage", DELTA_VERSION),
    ]


def test_every_pin_has_a_checksum_and_a_size() -> None:
    pins = [*pinned("kafka"), *pinned("registry"), *pinned("spark")]
    assert all(len(pin.sha256) == 64 and int(pin.sha256, 16) for pin in pins)
    assert all(pin.size_bytes > 0 for pin in pins)
    assert len({pin.file_name for pin in pins}) == len(pins)


def test_rendered_pins_are_read_back() -> None:
    pins = (*pinned("kafka"), *pinned("registry"), *pinned("spark"))
    assert parse(render(pins)) == pins
