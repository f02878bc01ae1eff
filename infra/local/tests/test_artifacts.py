"""The download cache, against a Maven repository of two small files on the loopback address."""

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from millrace_local import artifacts
from millrace_local.errors import DownloadError
from millrace_local.pins import REGISTRY_VERSION, Pin
from millrace_local.ports import free_port

_RUNNER = f"apicurio-registry-app-{REGISTRY_VERSION}-runner.jar"


class CountingHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        if not self.path.endswith(".sha1"):
            self.asked.append(self.path.rsplit("/", 1)[-1])
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@dataclass
class Repository:
    url: str
    asked: list[str]
    jar: Pin
    archive: Pin


def archive_bytes() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(entry := tarfile.TarInfo(_RUNNER), io.BytesIO(b"x"))
        assert entry.size == 0
    return content.getvalue()


def publish(folder: Path, pin: Pin, content: bytes) -> Pin:
    path = folder / pin.group / pin.artifact / pin.version / pin.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return replace(pin, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    folder = tmp_path / "repository"
    jar = publish(folder, Pin("kafka", "g", "broker", "1", "jar", "", 0, ""), b"a broker")
    archive = publish(folder, Pin("registry", "g", "registry", "1", "tar.gz", "all", 0, ""), archive_bytes())
    pins = {"kafka": [jar], "registry": [archive]}
    monkeypatch.setattr(artifacts, "pinned", lambda bundle: tuple(pins[bundle]))
    asked: list[str] = []
    handler = type("Handler", (CountingHandler,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Repository(f"http://127.0.0.1:{server.server_address[1]}", asked, jar, archive)
        server.shutdown()


def test_files_are_fetched_once_and_progress_reaches_the_pinned_size(tmp_path: Path, repository: Repository) -> None:
    seen: list[tuple[int, int]] = []
    found = artifacts.fetch(tmp_path / "cache", repository.url, lambda done, total: seen.append((done, total)))
    assert (found.kafka / "broker-1.jar").read_bytes() == b"a broker"
    assert found.registry_jar.exists()
    total = repository.jar.size_bytes + repository.archive.size_bytes
    assert seen[-1] == (total, total)
    assert artifacts.fetch(tmp_path / "cache", repository.url) == found
    assert sorted(repository.asked) == ["broker-1.jar", "registry-1-all.tar.gz"]


def test_a_filled_cache_needs_no_network(tmp_path: Path, repository: Repository) -> None:
    found = artifacts.fetch(tmp_path / "cache", repository.url)
    nobody = f"http://127.0.0.1:{free_port()}"
    assert artifacts.fetch(tmp_path / "cache", nobody) == found


def test_no_network_and_no_cache_is_one_line_with_what_to_do(tmp_path: Path, repository: Repository) -> None:
    with pytest.raises(DownloadError, match="connect to the network once .* MILLRACE_CACHE_DIR") as raised:
        artifacts.fetch(tmp_path / "cache", f"http://127.0.0.1:{free_port()}")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_the_pinned_one_is_refused_and_not_kept(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = replace(repository.jar, sha256="0" * 64)
    monkeypatch.setattr(artifacts, "pinned", lambda bundle: (forged,) if bundle == "kafka" else (repository.archive,))
    with pytest.raises(DownloadError, match=r"broker-1\.jar is not the pinned file"):
        artifacts.fetch(tmp_path / "cache", repository.url)
    assert not list((tmp_path / "cache").rglob("broker-1.jar"))


def test_what_a_killed_download_left_is_cleared_and_only_the_missing_is_fetched(
    tmp_path: Path, repository: Repository
) -> None:
    found = artifacts.fetch(tmp_path / "cache", repository.url)
    (found.kafka / "broker-1.jar").write_bytes(b"a bro")  # half a file
    leftover = tmp_path / "cache" / ".partial-killed"
    leftover.mkdir()
    (leftover / "half").write_bytes(b"x")
    repository.asked.clear()
    artifacts.fetch(tmp_path / "cache", repository.url)
    assert (found.kafka / "broker-1.jar").read_bytes() == b"a broker"
    assert repository.asked == ["broker-1.jar"]
    assert not leftover.exists()


def test_changed_pins_get_a_folder_of_their_own(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = artifacts.fetch(tmp_path / "cache", repository.url)
    bare = replace(repository.jar, artifact="other")
    with pytest.raises(DownloadError):
        monkeypatch.setattr(artifacts, "pinned", lambda bundle: (bare,) if bundle == "kafka" else (repository.archive,))
        artifacts.fetch(tmp_path / "cache", repository.url)
    assert list(before.kafka.iterdir()) == [before.kafka / "broker-1.jar"]


def test_two_fetches_at_once_download_once(tmp_path: Path, repository: Repository) -> None:
    found: list[artifacts.Artifacts] = []
    threads = [
        threading.Thread(target=lambda: found.append(artifacts.fetch(tmp_path / "cache", repository.url)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert sorted(repository.asked) == ["broker-1.jar", "registry-1-all.tar.gz"]


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, repository: Repository) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be written .*MILLRACE_CACHE_DIR"):
        artifacts.fetch(tmp_path / "file", repository.url)
