"""Files of a Maven repository (broker, registry, Delta for Spark): fetched once, checked against their pins, cached.

Several processes share the cache. It is safe to kill and safe to share: a file appears under its final name only when
it is whole and has the pinned SHA-256, and one process at a time fills the cache.
"""

import fcntl
import hashlib
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from millrace_local.errors import DownloadError
from millrace_local.pins import DELTA_VERSION, KAFKA_VERSION, REGISTRY_VERSION, Pin, pinned, sha256_of

# (bytes that have arrived, bytes to fetch in all)
Progress = Callable[[int, int], None]

_PARTIAL_PREFIX: Final = ".partial-"
_CONNECTIONS: Final = 6
_TIMEOUT_SECONDS: Final = 30


def ignore_progress(done_bytes: int, total_bytes: int) -> None:
    """Show nobody how a download goes."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Where the files are.

    Attributes:
        kafka: folder with the broker's jars and nothing else.
        registry: the unpacked registry.
    """

    kafka: Path
    registry: Path

    @property
    def kafka_class_path(self) -> str:
        """Java's class path of the broker."""
        return str(self.kafka / "*")

    @property
    def registry_jar(self) -> Path:
        """The registry's runner jar."""
        return self.registry / f"apicurio-registry-app-{REGISTRY_VERSION}-runner.jar"


def fetch(cache_dir: Path, repository_url: str | None = None, progress: Progress = ignore_progress) -> Artifacts:
    """Return the files of broker and registry, downloading what the cache does not hold.

    Args:
        cache_dir: created if need be.
        repository_url: a Maven repository to use in place of the public one.
        progress: called while bytes arrive, from several threads, one at a time.

    Raises:
        DownloadError: a file is missing and cannot be had, or is not what was pinned.
    """
    jars, archives = pinned("kafka"), pinned("registry")
    artifacts = Artifacts(
        kafka=cache_dir / f"kafka-{KAFKA_VERSION}-{_digest(jars)}",
        registry=cache_dir / f"registry-{REGISTRY_VERSION}-{_digest(archives)}",
    )
    wanted = {pin: artifacts.registry_jar for pin in archives} | {pin: artifacts.kafka / pin.file_name for pin in jars}
    _ensure(wanted, cache_dir, repository_url, progress)
    return artifacts


def fetch_spark_jars(
    cache_dir: Path, repository_url: str | None = None, progress: Progress = ignore_progress
) -> tuple[Path, ...]:
    """Return the jars that teach Spark to read and write Delta tables, downloading what the cache does not hold.

    The arguments are those of `fetch`.

    Raises:
        DownloadError: a file is missing and cannot be had, or is not what was pinned.
    """
    jars = pinned("spark")
    folder = cache_dir / f"spark-delta-{DELTA_VERSION}-{_digest(jars)}"
    wanted = {pin: folder / pin.file_name for pin in jars}
    _ensure(wanted, cache_dir, repository_url, progress)
    return tuple(wanted.values())


def _ensure(wanted: Mapping[Pin, Path], cache_dir: Path, repository_url: str | None, progress: Progress) -> None:
    """Have each pin's file: a jar itself, or a file that shows that the archive was unpacked."""
    if not _missing(wanted):
        return
    with _only_one(cache_dir):
        missing = _missing(wanted)  # another process may have filled it while this one waited
        if missing:
            _fill(missing, cache_dir, repository_url, progress)


def _missing(wanted: Mapping[Pin, Path]) -> Mapping[Pin, Path]:
    return {pin: path for pin, path in wanted.items() if not _is_whole(path, pin)}


def _is_whole(path: Path, pin: Pin) -> bool:
    # The SHA-256 was checked when the file came; the size finds what a full disk or a power cut did to it since.
    return path.exists() and (pin.packaging != "jar" or path.stat().st_size == pin.size_bytes)


def _fill(missing: Mapping[Pin, Path], cache_dir: Path, repository_url: str | None, progress: Progress) -> None:
    counter = _Counter(sum(pin.size_bytes for pin in missing), progress)
    with TemporaryDirectory(dir=cache_dir, prefix=_PARTIAL_PREFIX) as folder, ThreadPoolExecutor(_CONNECTIONS) as pool:

        def get(pin: Pin) -> None:
            path = _download(pin, Path(folder) / pin.sha256, repository_url, counter)
            if pin.packaging == "jar":
                missing[pin].parent.mkdir(exist_ok=True)
                path.replace(missing[pin])
            else:
                _unpack(path, missing[pin].parent)

        try:
            for _ in pool.map(get, missing):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            counter.cancel()
            raise


def _download(pin: Pin, folder: Path, repository_url: str | None, counter: "_Counter") -> Path:
    # Imported here: with a filled cache, which is nearly always, they would be most of a command's start-up time.
    import requests  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    repositories = None if repository_url is None else {"mirror": repository_url.rstrip("/")}
    context = MavenContext(
        resolver=PythonResolver(progress_callback=counter.file),
        repo_cache=folder,
        remote_repos=repositories,
        timeout=_TIMEOUT_SECONDS,
    )
    component = context.project(pin.group, pin.artifact).at_version(pin.version)
    try:
        path: Path = component.artifact(pin.classifier, pin.packaging).resolve()
    except (requests.RequestException, RuntimeError, OSError) as error:
        # jgo says RuntimeError when the repository has no such file
        message = (
            f"cannot download {pin.file_name} ({type(error).__name__}): connect to the network once to fill the cache, "
            "or set MILLRACE_CACHE_DIR to a filled one or MILLRACE_MAVEN_URL to a mirror"
        )
        raise DownloadError(message) from error
    found = sha256_of(path)
    if found != pin.sha256:
        message = f"{pin.file_name} is not the pinned file: its SHA-256 is {found}, not {pin.sha256}; nothing was kept"
        raise DownloadError(message)
    return path


def _unpack(archive: Path, target: Path) -> None:
    unpacked = archive.parent / "unpacked"
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(unpacked, filter="data")
        else:  # Python before 3.11.4; the archive is the pinned one
            tar.extractall(unpacked)  # noqa: S202
    shutil.rmtree(target, ignore_errors=True)
    unpacked.replace(target)


@contextmanager
def _only_one(cache_dir: Path) -> Iterator[None]:
    """Hold the cache's lock, and clear away what a process that was killed in here has left."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(cache_dir / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        message = f"the cache {cache_dir} cannot be written ({error.strerror}): set MILLRACE_CACHE_DIR to another place"
        raise DownloadError(message) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache_dir.glob(f"{_PARTIAL_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(lock)


def _digest(pins: Sequence[Pin]) -> str:
    """Name a set of files: a changed pin means a new folder, so that a folder never holds a file too many."""
    return hashlib.sha256("".join(pin.sha256 for pin in pins).encode()).hexdigest()[:8]


class _Counter:
    """Adds up the bytes of parallel downloads."""

    def __init__(self, total_bytes: int, progress: Progress) -> None:
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._progress = progress
        self._lock = threading.Lock()
        self._cancelled = False

    def cancel(self) -> None:
        """Let running downloads end at their next block."""
        self._cancelled = True

    @contextmanager
    def file(self, file_name: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
        """Count one file's bytes (the shape jgo asks for)."""
        del size_bytes  # the pins know

        def add(count: int) -> None:
            if self._cancelled:
                message = f"download of {file_name} stopped"
                raise DownloadError(message)
            with self._lock:
                self._done_bytes += count
                self._progress(self._done_bytes, self._total_bytes)

        yield add
