"""Probes and pauses between restarts against Kubernetes' rules, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.test_instance_plan import bench

from alcove.errors import InvalidRequest
from alcove.instances import manifest, probing
from alcove.instances.cri_tables import RUNNING
from alcove.instances.http_probe import Finding
from alcove.instances.probe_state import Allowance, Streak, first_rest_s, next_s
from alcove.instances.probing import Probes
from alcove.instances.view import ContainerView, PodView

BASE_MS = 1_790_000_000_000


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time goes on only when nothing is left to do, and at once to what comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run(main: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    clock = Clock()
    try:
        with patch.object(probing, "now_ms", lambda: BASE_MS + int(clock.now_s * 1000)):
            clock.run_until_complete(main(clock))
    finally:
        clock.close()


def pod(**probes: dict[str, Any]) -> manifest.Pod:
    given = {name: {"tcpSocket": {"port": 1}, **numbers} for name, numbers in probes.items()}
    return manifest.read({"spec": {"containers": [{"name": "c", "image": "i", **given}]}})


class Bench:
    """One container that started at 0, whose answers depend on the time."""

    def __init__(self, clock: Clock, wanted: manifest.Pod, good: Callable[[float], bool], before: Any = None) -> None:
        self.clock, self.asked = clock, []  # type: tuple[Clock, list[tuple[str, float]]]
        self.good = good
        self.told: list[tuple[str, str, str, float]] = []
        self.probes = Probes(wanted, lambda: None, before or {}, self.tell)
        self.container = wanted.spec.containers[0]
        self.view = PodView(containers=(ContainerView("id", "s", "c", 0, RUNNING, started_ms=BASE_MS),))

    async def ask(self, target: Any, probe: manifest.Probe) -> Finding:
        kinds = {"startup": self.container.startup_probe, "liveness": self.container.liveness_probe}
        kind = next((kind for kind, known in kinds.items() if known is probe), "readiness")
        self.asked.append((kind, self.clock.now_s))
        return Finding(self.good(self.clock.now_s))

    async def tell(self, *event: str) -> None:
        self.told.append((*event, self.clock.now_s))

    async def until(self, seconds: float) -> None:
        with patch.object(probing._Target, "ask", lambda target, probe: self.ask(target, probe)):
            self.probes.watch(None, list(self.view.containers), "a")  # type: ignore[arg-type]
            await asyncio.sleep(seconds - self.clock.now_s)

    def state(self) -> tuple[bool, bool, bool]:
        """Started, ready, to be started anew."""
        return self.probes.started(self.view)["id"], self.probes.ready(self.view)["id"], "id" in self.probes.unhealthy


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([True, False, None]), st.lists(st.booleans(), max_size=30))
def test_a_state_is_what_enough_answers_in_a_row_say(
    successes: int, failures: int, state: bool | None, answers: list[bool]
) -> None:
    streak, expected = Streak(successes, failures, state), state
    for index in range(len(answers)):
        said = answers[: index + 1]
        before = expected
        if said[-successes:] == [True] * successes:
            expected = True
        elif said[-failures:] == [False] * failures:
            expected = False
        assert streak.add(answers[index]) is (expected is not before)
        assert streak.state is expected


@given(st.floats(0, 1e6), st.integers(1, 86_400), st.floats(0, 1e6))
def test_the_next_question_is_whole_periods_after_the_first(begun: float, period: int, later: float) -> None:
    found = next_s(begun, period, begun + later)
    assert found > begun + later - period * 1e-5
    assert found <= begun + later + period * 1.00001
    assert abs((found - begun) / period - round((found - begun) / period)) < 1e-4


def test_the_delay_counts_from_the_containers_start() -> None:
    assert first_rest_s(10, 1000, 4000) == 7
    assert first_rest_s(2, 1000, 4000) == 0


PROBE = st.fixed_dictionaries(
    {
        "initialDelaySeconds": st.integers(0, 20),
        "periodSeconds": st.integers(1, 20),
        "failureThreshold": st.integers(1, 4),
    }
)
GOOD = st.lists(st.booleans(), min_size=1, max_size=20)


@settings(max_examples=150)
@given(PROBE, st.integers(1, 3), GOOD, st.integers(0, 100))
def test_readiness_at_any_moment(numbers: dict[str, int], successes: int, pattern: list[bool], moment: int) -> None:
    """As Kubernetes has it: asked each period after the delay, ready once enough answers in a row were good."""

    async def main(clock: Clock) -> None:
        one = Bench(clock, pod(readinessProbe={**numbers, "successThreshold": successes}), good)
        await one.until(moment + 0.5)
        times = range(numbers["initialDelaySeconds"], moment + 1, numbers["periodSeconds"])
        assert one.asked == [("readiness", float(time)) for time in times]
        assert one.state() == (True, ready(list(map(good, times))), False)
        await one.probes.close()

    def good(time: float) -> bool:
        return pattern[int(time) // 5 % len(pattern)]

    def ready(answers: list[bool]) -> bool:
        for end in range(len(answers), 0, -1):
            if answers[max(0, end - successes) : end] == [True] * successes:
                return True
            if answers[max(0, end - numbers["failureThreshold"]) : end] == [False] * numbers["failureThreshold"]:
                return False
        return False

    run(main)


@settings(max_examples=150)
@given(PROBE, PROBE, GOOD)
def test_nothing_else_is_asked_before_it_has_started_and_nothing_after_it_has_failed(
    startup: dict[str, int], liveness: dict[str, int], pattern: list[bool]
) -> None:
    async def main(clock: Clock) -> None:
        wanted = pod(startupProbe=startup, livenessProbe=liveness)
        one = Bench(clock, wanted, lambda time: pattern[int(time) // 7 % len(pattern)])
        await one.until(400.5)
        starting = [time for kind, time in one.asked if kind == "startup"]
        living = [time for kind, time in one.asked if kind == "liveness"]
        answers = [one.good(time) for time in starting]
        started, _, unhealthy = one.state()
        assert started is (True in answers), "the first good answer starts it, and is the last that is asked for"
        assert True not in answers[:-1]
        assert all(time >= starting[-1] for time in living) if started else not living
        if not started:
            assert unhealthy is (len(answers) >= startup["failureThreshold"])
            assert len(answers) <= startup["failureThreshold"]
        else:
            alive = [one.good(time) for time in living]
            row = [False] * liveness["failureThreshold"]
            ends = [end for end in range(len(alive) + 1) if end >= len(row) and alive[end - len(row) : end] == row]
            assert unhealthy is bool(ends)
            assert not ends or ends == [len(alive)]
        await one.probes.close()

    run(main)


def test_a_daemon_that_starts_anew_does_not_ask_whether_it_has_started_again() -> None:
    told = {"containerID": "containerd://id", "started": True, "ready": True}

    async def main(clock: Clock) -> None:
        wanted = pod(startupProbe={}, livenessProbe={}, readinessProbe={"failureThreshold": 3})
        one = Bench(clock, wanted, lambda time: False, {"containerStatuses": [told]})
        assert one.state() == (True, True, False)
        await one.until(15)
        assert "startup" not in [kind for kind, _ in one.asked]
        assert one.state() == (True, True, False)
        await one.until(25)
        assert one.state() == (True, False, True)
        await one.probes.close()
        another = Bench(clock, wanted, lambda time: False, {"containerStatuses": [{**told, "containerID": "x"}]})
        assert another.state() == (False, False, False)

    run(main)


def test_what_fails_is_told_and_not_too_often() -> None:
    async def main(clock: Clock) -> None:
        one = Bench(clock, pod(readinessProbe={"periodSeconds": 1}), lambda time: time == 3)
        await one.until(100.5)
        assert one.told[0] == ("Warning", "Unhealthy", "Readiness probe failed: ", 0.0)
        assert [time for *_, time in one.told] == [float(time) for time in range(26) if time != 3]
        await one.until(750)
        assert [time for *_, time in one.told][25:] == [300.0, 600.0]
        await one.probes.close()

    run(main)


@given(st.integers(1, 5), st.floats(1, 100), st.lists(st.floats(0, 1000), max_size=50))
def test_an_allowance_is_never_more_than_it_says(most: int, every_s: float, rests: list[float]) -> None:
    allowance, now, taken = Allowance(most, every_s), 0.0, []  # type: tuple[Allowance, float, list[float]]
    for rest in rests:
        now += rest
        if allowance.take(now):
            taken.append(now)
    for index, begun in enumerate(taken):
        for count, ended in enumerate(taken[index:], 1):
            assert count <= most + (ended - begun) / every_s + 1e-6


def test_only_readiness_may_want_several_good_answers() -> None:
    assert pod(readinessProbe={"successThreshold": 2})
    for kind in ("livenessProbe", "startupProbe"):
        with pytest.raises(InvalidRequest, match="successThreshold"):
            pod(**{kind: {"successThreshold": 2}})


class Backoff:
    """Kubernetes' own book-keeping (``flowcontrol.Backoff``): 10 s, doubled to 300 s, forgotten after twice that."""

    def __init__(self) -> None:
        self.pause_s, self.updated_s = 0.0, None  # type: tuple[float, float | None]

    def rest_s(self, ended_s: float) -> float:
        """Return how long a container rests after an end, and count its restart."""
        forgotten = self.updated_s is None or ended_s - self.updated_s >= 600
        rest = 0.0 if forgotten else self.pause_s
        self.pause_s = 10.0 if forgotten else min(2 * self.pause_s, 300.0)
        self.updated_s = ended_s + rest
        return rest


@settings(max_examples=150)
@given(st.lists(st.one_of(st.integers(0, 100), st.integers(500, 700)), max_size=15))
def test_pauses_are_kubernetes_pauses(runs_s: list[int]) -> None:
    one, oracle = bench(), Backoff()
    one.settle()
    for attempt, ran_s in enumerate(runs_s):
        one.now += ran_s * 1000
        one.exit(f"m0-{attempt}", 1)
        ended = one.now
        found = one.settle()
        if not one.running():
            one.now = found.wake_ms
            one.settle()
        assert one.running() == ["m0"]
        assert (one.now - ended) / 1000 == oracle.rest_s(ended / 1000)
