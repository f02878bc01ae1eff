"""Finding a Java that is new enough to run the broker and Spark, and its compiler."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from millrace_local.errors import JavaError

# Kafka 4 brokers are compiled for Java 17.
OLDEST_MAJOR: Final = 17
_HOW: Final = f"install a JDK or JRE {OLDEST_MAJOR} or newer and put it on PATH, or set JAVA_HOME to it"
_VERSION: Final = re.compile(r'version "(?:1\.)?(\d+)')


def find_java(java_home: Path | None) -> Path:
    """Return the java program: of `java_home` if given, else the first on PATH.

    Raises:
        JavaError: there is none, or it is too old; the message is one line and says what to do.
    """
    found = shutil.which("java", path=str(java_home / "bin")) if java_home else shutil.which("java")
    if found is None:
        where = f"in JAVA_HOME={java_home}" if java_home else "on PATH"
        message = f"no java {where}: {_HOW}"
        raise JavaError(message)
    try:
        shown = subprocess.run([found, "-version"], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{found} does not run ({error}): {_HOW}"
        raise JavaError(message) from error
    major = major_version(shown.stderr + shown.stdout)
    if major is None or major < OLDEST_MAJOR:
        said = "has an unknown version" if major is None else f"is Java {major}"
        message = f"{found} {said}: {_HOW}"
        raise JavaError(message)
    return Path(found)


def find_compiler(java_home: Path | None) -> Path:
    """Return the javac that belongs to the Java that `find_java` finds.

    Raises:
        JavaError: there is no Java, or one without its compiler (a JRE); the message is one line and says what to do.
    """
    java = find_java(java_home).resolve()
    compiler = java.with_name("javac")
    if not compiler.exists():
        message = (
            f"{java} has no javac beside it (a JRE): install a JDK {OLDEST_MAJOR} or newer, or set JAVA_HOME to it"
        )
        raise JavaError(message)
    return compiler


def major_version(shown: str) -> int | None:
    """Return the major version in what `java -version` shows (8 for 1.8); None if it is not there."""
    match = _VERSION.search(shown)
    return None if match is None else int(match.group(1))
