"""The files of broker, registry and Delta for Spark: Maven coordinates with size and SHA-256, in pins.txt.

`python -m millrace_local.pins` resolves the versions below anew and writes pins.txt; read its diff like a lock file's.
"""

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KAFKA_VERSION: Final = "4.2.1"
REGISTRY_VERSION: Final = "3.0.9"
# Kafka 4.2 is built against slf4j 1.7; this is the last binding of that line, and the smallest.
SLF4J_VERSION: Final = "1.7.36"
# The newest that is built for Spark 4.2. Named one by one: what Spark needs besides is in PySpark, and Delta's own list
# of dependencies would put an older Hadoop beside it.
DELTA_VERSION: Final = "4.4.0"
_DELTA_ARTIFACTS: Final = ("delta-spark_4.2_2.13", "delta-storage")

PINS_FILE: Final = Path(__file__).with_name("pins.txt")
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of a Maven repository, known to the bit.

    Attributes:
        bundle: what it belongs to: kafka, registry or spark.
        group: Maven group id.
        artifact: Maven artifact id.
        version: Maven version.
        packaging: file extension.
        classifier: Maven classifier; may be empty.
        size_bytes: of the file.
        sha256: of the file, hexadecimal.
    """

    bundle: str
    group: str
    artifact: str
    version: str
    packaging: str
    classifier: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name in a Maven repository."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.{self.packaging}"


def parse(text: str) -> tuple[Pin, ...]:
    """Read the lines of pins.txt: sha256, size in bytes, bundle, group:artifact:version:packaging[:classifier]."""
    pins = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        sha256, size_bytes, bundle, coordinate = line.split()
        group, artifact, version, packaging, *classifier = coordinate.split(":")
        pins.append(Pin(bundle, group, artifact, version, packaging, "".join(classifier), int(size_bytes), sha256))
    return tuple(pins)


def render(pins: Iterable[Pin]) -> str:
    """Return pins.txt for `pins`."""
    lines = ["# Written by `python -m millrace_local.pins`: sha256, bytes, bundle, coordinate"]
    for pin in pins:
        coordinate = ":".join(filter(None, (pin.group, pin.artifact, pin.version, pin.packaging, pin.classifier)))
        lines.append(f"{pin.sha256} {pin.size_bytes:>9} {pin.bundle:<8} {coordinate}")
    return "\n".join(lines) + "\n"


def pinned(bundle: str) -> tuple[Pin, ...]:
    """Return the pins of `bundle` (kafka, registry or spark)."""
    return tuple(pin for pin in parse(PINS_FILE.read_text(encoding="utf-8")) if pin.bundle == bundle)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def resolve() -> tuple[Pin, ...]:
    """Ask the Maven repository which files the versions above stand for, and download all of them to pin them."""
    # Imported here: resolving is a maintainer's task, reading pins is everybody's.
    from jgo.maven import Dependency, MavenContext  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder))
        broker = context.project("org.apache.kafka", "kafka_2.13").at_version(KAFKA_VERSION).artifact()
        _, needed = context.resolver.resolve([Dependency(broker)])
        logger = context.project("org.slf4j", "slf4j-simple").at_version(SLF4J_VERSION).artifact()
        registry = (
            context.project("io.apicurio", "apicurio-registry-app")
            .at_version(REGISTRY_VERSION)
            .artifact("all", "tar.gz")
        )
        chosen = [("kafka", found) for found in (broker, *(dependency.artifact for dependency in needed), logger)]
        delta = [context.project("io.delta", name).at_version(DELTA_VERSION).artifact() for name in _DELTA_ARTIFACTS]
        pins = []
        for bundle, artifact in [*chosen, ("registry", registry), *(("spark", found) for found in delta)]:
            path = artifact.resolve()
            pins.append(
                Pin(
                    bundle=bundle,
                    group=artifact.groupId,
                    artifact=artifact.artifactId,
                    version=artifact.version,
                    packaging=artifact.packaging,
                    classifier=artifact.classifier,
                    size_bytes=path.stat().st_size,
                    sha256=sha256_of(path),
                )
            )
    return tuple(sorted(pins, key=lambda pin: (pin.bundle, pin.group, pin.artifact)))


def main() -> None:
    """Write pins.txt."""
    PINS_FILE.write_text(render(resolve()), encoding="utf-8")


if __name__ == "__main__":
    main()
