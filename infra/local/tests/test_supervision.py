"""The rules of keeping processes running, with pretended processes and a pretended clock."""

import os
from dataclasses import dataclass, field, replace

import pytest

from millrace_local.processes import Identity, Probe, ProcessSpec
from millrace_local.supervision import Supervision, back_off_seconds


def spec(name: str, *, stop_rank: int = 0, **environment: str) -> ProcessSpec:
    return ProcessSpec(name, ("run",), Probe("http", "http://127.0.0.1:1/"), environment, stop_rank, grace_seconds=5.0)


@dataclass
class PretendedProcess:
    """A Popen that ends when it is told to."""

    spec: ProcessSpec
    pid: int = field(default_factory=os.getpid)
    code: int | None = None
    asked: list[str] = field(default_factory=list)
    obeys: bool = True

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.asked.append("terminate")
        if self.obeys:
            self.code = 0

    def kill(self) -> None:
        self.asked.append("kill")
        self.code = -9

    def wait(self) -> int | None:
        return self.code


class World:
    """A supervision whose time and processes the test moves."""

    def __init__(self) -> None:
        self.now_seconds = 100.0
        self.full = False
        self.started: list[PretendedProcess] = []
        self.supervision = Supervision(self.start, lambda: self.now_seconds)  # type: ignore[arg-type]

    def start(self, wanted: ProcessSpec) -> PretendedProcess:
        if self.full:
            message = "no more processes"
            raise OSError(message)
        self.started.append(PretendedProcess(wanted))
        return self.started[-1]

    def step(self, seconds: float = 0.0) -> None:
        self.now_seconds += seconds
        self.supervision.step()

    def running(self) -> list[str]:
        return [process.spec.name for process in self.started if process.code is None]


@pytest.fixture
def world() -> World:
    return World()


def test_back_off_doubles_up_to_half_a_minute() -> None:
    assert [back_off_seconds(failures) for failures in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert back_off_seconds(10_000) == 30


def test_what_died_starts_again_after_its_back_off_and_not_before(world: World) -> None:
    world.supervision.want([spec("a")])
    world.step()
    world.started[0].code = 1
    world.step()
    world.step(0.4)
    assert len(world.started) == 1
    world.step(0.1)
    assert len(world.started) == 2
    assert world.supervision.states()[0].restarts == 1


def test_back_off_grows_with_each_death(world: World) -> None:
    world.supervision.want([spec("a")])
    world.step()
    for deaths, pause_seconds in ((1, 0.5), (2, 1.0), (3, 2.0)):
        world.started[-1].code = 1
        world.step()
        world.step(pause_seconds - 0.01)
        assert len(world.started) == deaths
        world.step(0.01)
        assert len(world.started) == deaths + 1


def test_back_off_begins_anew_after_a_healthy_minute(world: World) -> None:
    world.supervision.want([spec("a")])
    world.step()
    for _ in range(5):
        world.started[-1].code = 1
        world.step()
        world.step(30)
    world.step(60)
    world.started[-1].code = 1
    world.step()
    started = len(world.started)
    world.step(0.5)
    assert len(world.started) == started + 1


def test_a_start_that_fails_is_tried_again_like_a_death(world: World) -> None:
    world.full = True
    world.supervision.want([spec("a")])
    world.step()
    world.step(0.5)
    world.full = False
    world.step(0.9)
    assert world.started == []
    world.step(0.1)
    assert world.running() == ["a"]
    assert world.supervision.states()[0].restarts == 2


def test_services_stop_before_registry_and_registry_before_broker(world: World) -> None:
    world.supervision.want([spec("kafka", stop_rank=2), spec("registry", stop_rank=1), spec("ingest")])
    world.step()
    world.supervision.want([])
    stopped = []
    for _ in range(6):
        world.step()
        stopped += [p.spec.name for p in world.started if p.asked and p.spec.name not in stopped]
    assert stopped == ["ingest", "registry", "kafka"]
    assert world.supervision.identities() == ()


def test_what_does_not_stop_is_killed_after_its_grace(world: World) -> None:
    world.supervision.want([spec("a")])
    world.step()
    world.started[0].obeys = False
    world.supervision.want([])
    world.step()
    world.step(4.9)
    assert world.started[0].asked == ["terminate"]
    world.step(0.1)
    assert world.started[0].asked == ["terminate", "kill"]


def test_changed_environment_restarts_that_process_only_and_is_no_failure(world: World) -> None:
    world.supervision.want([spec("a"), spec("b")])
    world.step()
    world.supervision.want([spec("a", IDLE="1"), spec("b")])
    world.step()
    world.step()
    assert [p.spec.name for p in world.started] == ["a", "b", "a"]
    assert world.started[-1].spec.environment == {"IDLE": "1"}
    assert [state.restarts for state in world.supervision.states()] == [0, 0]


def test_a_changed_spec_does_not_wait_for_the_back_off_of_the_old_one(world: World) -> None:
    world.supervision.want([spec("a")])
    world.step()
    for _ in range(6):
        world.started[-1].code = 1
        world.step()
        world.step(30)
    world.started[-1].code = 1
    world.step()
    world.supervision.want([spec("a", FIXED="1")])
    world.step()
    assert world.running() == ["a"]


def test_wanting_the_same_again_changes_nothing(world: World) -> None:
    world.supervision.want([spec("a")])
    world.step()
    world.supervision.want([spec("a")])
    world.step()
    assert len(world.started) == 1
    assert world.started[0].asked == []


def test_ready_is_said_of_the_process_that_answered_only(world: World) -> None:
    world.supervision.want([spec("a")])
    world.step()
    identity = world.supervision.states()[0].identity
    assert identity is not None
    world.supervision.mark_ready(replace(identity, created=identity.created + 1), ready=True)
    assert not world.supervision.states()[0].ready
    world.supervision.mark_ready(identity, ready=True)
    assert world.supervision.states()[0].ready
    world.supervision.want([spec("a", NEW="1")])
    assert not world.supervision.states()[0].ready


def test_identity_is_written_and_read_back() -> None:
    mine = Identity.of(os.getpid())
    assert mine is not None
    assert mine.alive
    assert Identity.parse(str(mine)) == mine
    assert not replace(mine, created=mine.created - 60).alive
