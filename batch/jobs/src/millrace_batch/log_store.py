"""Our log stores for Spark: built from their source by the JDK's compiler, once, into the cache.

Spark commits to a table that the stream writes too. What makes that safe is said in the Java files.
"""

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pyspark

from millrace_batch.errors import CompilerError

# URI scheme to the class that commits to tables on it.
CLASSES: Final = {
    "file": "io.millrace.batch.LinkLogStore",
    "s3a": "io.millrace.batch.ConditionalLogStore",
}
# Spark 4 runs on Java 17; what a newer compiler makes runs there too.
_RELEASE: Final = "17"
_TIMEOUT_SECONDS: Final = 120


def build(compiler: Path, delta_jars: Sequence[Path], cache_dir: Path) -> Path:
    """Return the jar with the log stores, compiling it if the cache has none of this source and these jars.

    Safe to be killed and to run twice at once: the jar appears under its name whole.

    Args:
        compiler: javac of a JDK 17 or newer.
        delta_jars: Delta's, whose classes ours extend.
        cache_dir: created if need be.

    Raises:
        CompilerError: the compiler refused, or the cache cannot be written.
    """
    sources = sorted(_source_dir().rglob("*.java"))
    class_path = [*delta_jars, *_hadoop_jars()]
    jar = cache_dir / f"spark-log-store-{_key(sources, class_path)}.jar"
    if jar.exists():
        return jar
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache_dir, prefix=".partial-log-store-") as folder:
            classes = Path(folder) / "classes"
            _compile(compiler, sources, class_path, classes)
            packed = _pack(classes, Path(folder) / jar.name)
            packed.replace(jar)
    except OSError as error:
        message = f"the log stores cannot be put into {cache_dir} ({error}): set MILLRACE_CACHE_DIR to another place"
        raise CompilerError(message) from error
    return jar


def _source_dir() -> Path:
    package = Path(__file__).parent
    installed = package / "java"
    return installed if installed.exists() else package.parents[1] / "java"


def _hadoop_jars() -> list[Path]:
    return sorted((Path(pyspark.__file__).parent / "jars").glob("hadoop-client-api-*.jar"))


def _key(sources: Sequence[Path], class_path: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    for jar in class_path:
        digest.update(jar.name.encode())
    return digest.hexdigest()[:12]


def _compile(compiler: Path, sources: Sequence[Path], class_path: Sequence[Path], classes: Path) -> None:
    command = [str(compiler), "--release", _RELEASE, "-Xlint:all,-classfile,-path,-options", "-Werror", "-proc:none"]
    command += ["-d", str(classes), "-cp", os.pathsep.join(map(str, class_path)), *map(str, sources)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)  # noqa: S603
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or str(error)
        message = f"{compiler} does not compile the log stores: {said.strip()}"
        raise CompilerError(message) from error


def _pack(classes: Path, jar: Path) -> Path:
    with zipfile.ZipFile(jar, "w") as file:
        for path in sorted(classes.rglob("*.class")):
            file.write(path, path.relative_to(classes))
    return jar
