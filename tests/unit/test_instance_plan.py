"""The plan of a pod, against a runtime that does what it is told: whatever happens, the rules hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alcove.instances import manifest
from alcove.instances import plan as plans
from alcove.instances.cri_tables import CREATED, EXITED, RUNNING
from alcove.instances.plan import Wanted, plan
from alcove.instances.status import status
from alcove.instances.view import ContainerView, Memory, PodView, SandboxView

FOREVER = "forever"


class Bench:
    """A runtime of one pod, with a clock of its own; does what the plan says as the worker would."""

    def __init__(self, pod: manifest.Pod) -> None:
        self.pod, self.memory = pod, Memory()
        self.now = 1_000_000
        self.sandboxes: list[SandboxView] = []
        self.containers: list[ContainerView] = []
        self.started: list[tuple[str, int]] = []
        self.deleted = self.gone = False

    def view(self) -> PodView:
        return PodView(tuple(self.sandboxes), tuple(self.containers))

    def settle(self) -> plans.Plan:
        """Act until nothing is to be done now."""
        for _ in range(100):
            found = plan(Wanted(self.pod, self.deleted), self.view(), self.memory, self.now)
            for action in found.actions:
                self.act(action)
            if not found.actions or self.gone:
                return found
        raise AssertionError("the plan never rests")

    def act(self, action: plans.Action) -> None:
        if isinstance(action, plans.StartSandbox):
            assert not any(one.ready for one in self.sandboxes), "two sandboxes"
            self.memory.sandbox_attempt = action.attempt
            self.memory.started_ms = self.memory.started_ms or self.now
            self.sandboxes.append(SandboxView(f"s{action.attempt}", action.attempt, True, self.now))
        elif isinstance(action, plans.EndSandbox):
            self.end_sandbox(action.id, remove=action.remove)
        elif isinstance(action, plans.StartContainer):
            self.start(action)
        elif isinstance(action, plans.StopContainers):
            for id in action.ids:
                self.exit(id, 137)
        elif isinstance(action, plans.RemoveContainer):
            self.containers = [one for one in self.containers if one.id != action.id]
        elif isinstance(action, plans.End):
            self.memory.phase = action.phase
        else:
            assert not self.sandboxes
            assert not self.containers
            self.gone = True

    def start(self, action: plans.StartContainer) -> None:
        name = action.container.name
        running = [one.name for one in self.containers if one.running]
        assert name not in running, "started twice"
        assert (name, action.attempt) not in self.started
        self.memory.attempts[name] = action.attempt
        known = self.memory.endings.get(name)
        pause = self.memory.pauses_s.get(name, 0.0)
        self.memory.pauses_s[name] = 0.0 if known is None else plans.next_pause_s(pause)
        self.started.append((name, action.attempt))
        id = action.id or f"{name}-{action.attempt}"
        self.containers.append(
            ContainerView(id, self.sandboxes[-1].id, name, action.attempt, RUNNING, self.now, self.now)
        )

    def exit(self, id: str, code: int) -> None:
        self.containers = [
            _ended(one, self.now, code) if one.id == id and one.state in (RUNNING, CREATED) else one
            for one in self.containers
        ]
        for one in self.containers:
            if one.id == id:
                self.memory.remember(one.end(), one.name)
                if plans.pause_s(one.name, one, self.memory) == 0.0:
                    self.memory.pauses_s.pop(one.name, None)

    def end_sandbox(self, id: str, *, remove: bool = False) -> None:
        for one in list(self.containers):
            if one.sandbox == id and one.running:
                self.exit(one.id, 137)
        self.sandboxes = [SandboxView(s.id, s.attempt, s.id != id and s.ready, s.created_ms) for s in self.sandboxes]
        if remove:
            self.sandboxes = [one for one in self.sandboxes if one.id != id]
            self.containers = [one for one in self.containers if one.sandbox != id]

    def running(self) -> list[str]:
        return [one.name for one in self.containers if one.running]

    def shown(self) -> dict[str, Any]:
        return status(self.pod, self.view(), self.memory, self.now, ready={}, started={})


def _ended(one: ContainerView, now: int, code: int) -> ContainerView:
    return ContainerView(one.id, one.sandbox, one.name, one.attempt, EXITED, one.created_ms, one.started_ms, now, code)


def bench(policy: str = "Always", init: int = 0, main: int = 1, **spec: Any) -> Bench:
    def rows(kind: str, count: int) -> list[dict[str, str]]:
        return [{"name": f"{kind}{n}", "image": "i"} for n in range(count)]

    document = {"initContainers": rows("i", init), "containers": rows("m", main), "restartPolicy": policy, **spec}
    return Bench(manifest.read({"spec": document}))


def test_init_containers_come_one_after_the_other_and_before_the_rest() -> None:
    one = bench(init=2, main=2)
    one.settle()
    assert one.running() == ["i0"]
    one.exit("i0-0", 0)
    one.settle()
    assert one.running() == ["i1"]
    one.exit("i1-0", 0)
    one.settle()
    assert one.running() == ["m0", "m1"]


def test_pauses_between_restarts_double_up_to_five_minutes() -> None:
    one = bench()
    one.settle()
    rests = []
    for attempt in range(8):
        one.now += 1000
        one.exit(f"m0-{attempt}", 1)
        found = one.settle()
        if one.running():
            rests.append(0)
            continue
        assert one.shown()["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        rests.append((found.wake_ms - one.now) // 1000)
        one.now = found.wake_ms
        one.settle()
    assert rests == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_container_that_ran_for_long_is_started_at_once() -> None:
    one = bench()
    one.settle()
    for attempt in range(3):
        one.exit(f"m0-{attempt}", 1)
        one.now = one.settle().wake_ms or one.now
        one.settle()
    one.now += plans.FORGIVEN_MS
    one.exit("m0-3", 1)
    one.settle()
    assert one.running() == ["m0"]


def test_never_and_on_failure() -> None:
    for policy, code, phase in (("Never", 0, "Succeeded"), ("Never", 3, "Failed"), ("OnFailure", 0, "Succeeded")):
        one = bench(policy)
        one.settle()
        one.exit("m0-0", code)
        one.settle()
        assert one.shown()["phase"] == phase
        assert not any(sandbox.ready for sandbox in one.sandboxes), "its machine is given back"
    one = bench("OnFailure")
    one.settle()
    one.exit("m0-0", 3)
    one.settle()
    assert one.running() == ["m0"]


def test_an_init_container_that_fails_ends_a_pod_that_never_restarts() -> None:
    one = bench("Never", init=1)
    one.settle()
    one.exit("i0-0", 2)
    one.settle()
    assert one.shown()["phase"] == "Failed"
    assert one.started == [("i0", 0)]


def test_a_lost_sandbox_is_made_anew_with_all_that_was_in_it() -> None:
    one = bench(init=1, main=2)
    one.settle()
    one.exit("i0-0", 0)
    one.settle()
    one.end_sandbox("s0")
    one.settle()
    assert one.running() == ["i0"]
    one.exit("i0-1", 0)
    one.settle()
    assert one.running() == ["m0", "m1"]
    assert one.shown()["containerStatuses"][0]["restartCount"] == 1


def test_a_lost_sandbox_of_a_pod_whose_containers_were_through_ends_it() -> None:
    one = bench("Never", main=2)
    one.settle()
    one.exit("m0-0", 0)
    one.end_sandbox("s0")
    one.settle()
    assert one.shown()["phase"] == "Failed"
    assert len(one.started) == 2


def test_a_deadline_ends_it() -> None:
    one = bench(activeDeadlineSeconds=5)
    found = one.settle()
    assert found.wake_ms == one.now + 5000
    one.now = found.wake_ms
    one.settle()
    assert (one.memory.phase, one.running()) == ("Failed", [])


def test_an_unhealthy_container_is_stopped_to_be_started_anew() -> None:
    one = bench()
    one.settle()
    found = plan(Wanted(one.pod, unhealthy={"m0-0": "liveness"}), one.view(), one.memory, one.now)
    assert found.actions == [plans.StopContainers(("m0-0",), "unhealthy")]


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("exit"), st.integers(0, 3), st.sampled_from([0, 1, 137])),
        st.tuples(st.just("lose"), st.just(0), st.just(0)),
        st.tuples(st.just("pass"), st.integers(1, 400), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=200)
@given(st.sampled_from(["Always", "OnFailure", "Never"]), st.integers(0, 2), st.integers(1, 2), _STEPS)
def test_whatever_happens_it_can_be_removed_and_ends_once(
    policy: str, init: int, main: int, steps: list[tuple[str, int, int]]
) -> None:
    one = bench(policy, init, main)
    one.settle()
    for kind, number, code in steps:
        live = [c for c in one.containers if c.running]
        if kind == "exit" and live:
            one.exit(live[number % len(live)].id, code)
        elif kind == "lose" and one.view().sandbox is not None:
            one.end_sandbox(one.sandboxes[-1].id)
        elif kind == "pass":
            one.now += number * 1000
        phase = one.memory.phase
        one.settle()
        assert not phase or one.memory.phase == phase
        assert policy != "Always" or not one.memory.phase
        if one.memory.phase:
            assert not one.running()
        one.shown()
    one.deleted = True
    one.settle()
    assert one.gone
