"""What pods are billed for, against a runtime and a clock of the test's own: whatever happens, the sums are exact."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alcove.host.months import month_of, split
from alcove.instances import ledger as module
from alcove.instances import manifest, traffic
from alcove.instances.cri import network_namespace
from alcove.instances.cri_tables import EXITED, RUNNING
from alcove.instances.ledger import Ledger, proofs
from alcove.instances.size import EMPTY_DIR_MIB, Size, size_of
from alcove.instances.traffic import Traffic
from alcove.instances.view import ContainerView, PodView, SandboxView
from alcove.metering.bill import Tariff, bill
from alcove.pods.model import Defaults
from alcove.shim import spec
from alcove.store import pod_usage
from alcove.store.database import Database
from alcove.store.metering import UsageRow
from alcove.store.pod_usage import Payer, PodUsageRow, Proof, list_intervals, list_pod_usage, sum_pod_usage

PAYER = Payer("u", "0" * 12, "pod", 1500, 2048, 10_240)
# Just before a month ends: what is split is tested with all the rest.
START_MS = month_of(1_790_000_000_000)[2] - 60_000


@dataclass
class Container:
    id: str
    sandbox: str
    begin_ms: int
    end_ms: int = 0
    # From when the runtime tells of the end.
    told_ms: int = 0
    unknown: bool = False

    def view(self, now: int) -> ContainerView:
        if not self.end_ms or now < self.told_ms:
            return ContainerView(self.id, self.sandbox, "c", 0, RUNNING, started_ms=self.begin_ms)
        # An end that nobody saw is told as the moment of its discovery.
        finished, reason = (self.told_ms, "Unknown") if self.unknown else (self.end_ms, "Error")
        return ContainerView(
            self.id, self.sandbox, "c", 0, EXITED, started_ms=self.begin_ms, finished_ms=finished, reason=reason
        )


@dataclass
class Bench:
    """One pod; ``looked`` has the last moment at which its running was proven, by sandboxes."""

    database: Database
    now: int = START_MS
    sandbox: int = 0
    containers: list[Container] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    looked: dict[str, int] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    counters: dict[str, Traffic] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin_daemon()

    def begin_daemon(self) -> None:
        """What a daemon that was killed knew is gone."""
        self.ledger = Ledger(self.database, self, "i")  # type: ignore[arg-type]
        self.ledger.read_traffic = lambda spaces: {key: self.counters[key] for key in spaces if key in self.counters}

    @property
    def here(self) -> str:
        return f"s{self.sandbox}"

    async def cri(self) -> Bench:
        return self

    async def call(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        seen = [one.view(self.now) for one in self.containers if one.id not in self.removed]
        return {"containers": [{"pod_sandbox_id": one.sandbox} for one in seen if one.running]}

    async def note(self) -> None:
        seen = [one.view(self.now) for one in self.containers if one.id not in self.removed]
        self.prove(seen)
        view = PodView((SandboxView(self.here, self.sandbox, True, 0),), tuple(seen))
        await self.ledger.note(PAYER, view, self.now, {self.here: "/netns"})

    def prove(self, seen: list[ContainerView]) -> None:
        """The first look of a daemon is written down as it is; where all has ended, only the ends count."""
        for one in seen:
            if one.running and self.ledger._open.get(one.sandbox) is None:
                self.looked[one.sandbox] = self.now
        for sandbox in {one.sandbox for one in seen}:
            own = [one for one in seen if one.sandbox == sandbox]
            if all(one.exited and one.reason != "Unknown" for one in own):
                self.looked.pop(sandbox, None)

    async def look(self) -> None:
        self.ledger._looked_s = -1e9
        await self.ledger.look()
        for one in self.containers:
            known = self.ledger._open.get(one.sandbox)
            if known is not None and one.view(self.now).running and one.id not in self.removed:
                self.looked[one.sandbox] = self.now

    def start(self) -> None:
        self.containers.append(Container(f"c{len(self.containers)}", self.here, self.now))

    def running(self) -> list[Container]:
        return [one for one in self.containers if not one.end_ms and one.sandbox == self.here]

    def end(self, one: Container, lag_ms: int, *, unknown: bool = False) -> None:
        one.end_ms, one.told_ms, one.unknown = self.now, self.now + lag_ms, unknown

    async def next_sandbox(self) -> None:
        """Everything has ended; it is noted, then removed, as a worker does it."""
        self.now = max([self.now, *(one.told_ms for one in self.containers)])
        await self.note()
        self.removed |= {one.id for one in self.containers}
        self.ledger.forget(self.here)
        self.sandbox += 1

    def truth(self) -> list[tuple[int, int]]:
        """From each sandbox's first start to its last end; of one that was lost, to the last look that proved it."""
        found = []
        for sandbox in {one.sandbox for one in self.containers}:
            own = [one for one in self.containers if one.sandbox == sandbox]
            begin = min(one.begin_ms for one in own)
            end = max((one.end_ms for one in own if not one.unknown), default=begin)
            if any(one.unknown for one in own):
                end = max(end, self.looked.get(sandbox, begin))
            found.append((begin, end))
        return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("lose"), st.booleans().map(int)),
        st.tuples(st.just("pass"), st.integers(0, 40_000)),
        st.tuples(st.just("look"), st.just(0)),
        st.tuples(st.just("note"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=30,
)


async def play(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = await Database.open(Path(folder) / "i.db", schema="instances")
        bench = Bench(database)
        with patch.object(module, "now_ms", lambda: bench.now):
            for kind, number in steps:
                await step(bench, kind, number)
            for one in bench.running():
                bench.end(one, 7)
            await bench.next_sandbox()
            # It was all told: told again to a new daemon, it adds nothing.
            bench.begin_daemon()
            bench.removed.clear()
            await bench.note()
        await check(bench)
        await database.close()


async def step(bench: Bench, kind: str, number: int) -> None:
    bench.now += 1
    running = bench.running()
    if kind == "start":
        bench.start()
    elif kind == "end" and running:
        bench.end(running[0], number)
    elif kind == "lose" and running:
        for one in running:
            bench.end(one, 5000, unknown=bool(number))
        await bench.next_sandbox()
    elif kind == "pass":
        bench.now += number
    elif kind == "look":
        await bench.look()
    elif kind == "note":
        await bench.note()
    elif kind == "crash":
        bench.begin_daemon()


async def check(bench: Bench) -> None:
    found = await bench.database.read(lambda c: list_pod_usage(c, "", "", "", ("", "", ""), 100))
    months: dict[str, int] = {}
    for begin, end in bench.truth():
        for month, spent in split(begin, end):
            months[month] = months.get(month, 0) + spent
    assert {row.month: row.run_ms for row in found if row.run_ms} == months
    for row in found:
        assert (row.milli_cpu_ms, row.mib_ms) == (row.run_ms * PAYER.milli_cpus, row.run_ms * PAYER.memory_mib)
        assert row.disk_mib_ms == row.run_ms * PAYER.disk_mib
    intervals = await bench.database.read(lambda c: list_intervals(c, PAYER.tenant_id, "", 1000))
    assert sorted((one.begin_ms, one.until_ms) for one in intervals) == sorted(bench.truth())


@settings(max_examples=150)
@example([("start", 0), ("end", 2), ("note", 0), ("note", 0), ("start", 0), ("lose", 1)])
@given(STEPS)
def test_any_sequence_of_starts_ends_losses_and_crashes_sums_to_exactly_the_used_time(
    steps: list[tuple[str, int]],
) -> None:
    asyncio.run(play(steps))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(await Database.open(tmp_path / "i.db", schema="instances"))
    with patch.object(module, "now_ms", lambda: bench.now):
        yield bench
    await bench.database.close()


async def test_that_it_ran_on_was_assumed_only_until_its_end_is_told(bench: Bench) -> None:
    """The runtime says ``running`` for a while after the end: what was billed for that is taken back."""
    bench.start()
    bench.now += 1000
    await bench.note()
    bench.end(bench.containers[0], 500)
    bench.now += 400
    await bench.look()
    assert [row.run_ms for row in await rows(bench.database)] == [1400]
    bench.now += 400
    await bench.note()
    assert [row.run_ms for row in await rows(bench.database)] == [1000]


async def test_a_list_from_before_the_end_is_old_news(bench: Bench) -> None:
    """It was asked for while the end was not told yet, and comes when that is written down already."""
    bench.start()
    await bench.note()
    bench.now += 500
    bench.end(bench.containers[0], 600)
    bench.now += 500
    answer = await bench.call("ListContainers", {})
    assert answer["containers"]

    async def late(name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        bench.now += 200
        await bench.note()
        return answer

    bench.call = late  # type: ignore[method-assign]
    await bench.look()
    assert [row.run_ms for row in await rows(bench.database)] == [500]


async def test_traffic_is_what_the_interface_counted_whoever_reads_it(bench: Bench) -> None:
    bench.start()
    await bench.note()
    for counted in (100, 250):
        bench.counters["s0"] = Traffic(counted, 2 * counted)
        await bench.look()
        bench.begin_daemon()
        await bench.note()
    bench.counters["s0"] = Traffic(300, 700)
    await bench.ledger.settle("s0")
    await bench.ledger.settle("s0")
    assert [(row.received_bytes, row.sent_bytes) for row in await rows(bench.database)] == [(300, 700)]


async def rows(database: Database) -> list[PodUsageRow]:
    return await database.read(lambda c: list_pod_usage(c, "", "", "", ("", "", ""), 100))


async def test_names_beyond_the_limit_are_summed_together_and_old_intervals_go(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "i.db", schema="instances")

    def churn(connection: Any) -> None:
        for number in range(6):
            payer = Payer(f"u{number}", "1" * 12, f"n{number}", 1000, 1, 1)
            proof = Proof(begin_ms=START_MS, ended_ms=START_MS + 1000 + number, final=True)
            pod_usage.prove(connection, f"s{number}", payer, proof, START_MS)
        pod_usage.trim_pod_usage(connection, "2000-01", 0)

    with patch.object(pod_usage, "NAMES_LIMIT", 4), patch.object(pod_usage, "INTERVALS_LIMIT", 3):
        await database.write(churn)
    assert {row.name: row.run_ms for row in await rows(database)} == {
        **{f"n{number}": 1000 + number for number in range(4)},
        "": 2009,
    }
    (total,) = await database.read(lambda c: sum_pod_usage(c, "", ""))
    assert total.run_ms == 6015
    left = await database.read(lambda c: list_intervals(c, "1" * 12, "", 100))
    assert [one.sandbox for one in left] == ["s5", "s4", "s3"]
    await database.write(lambda c: pod_usage.trim_pod_usage(c, "2999-01", START_MS * 2))
    assert await rows(database) == []
    assert await database.read(lambda c: list_intervals(c, "1" * 12, "", 100)) == []
    await database.close()


def test_a_container_that_never_started_costs_nothing() -> None:
    created = ContainerView("c", "s", "c", 0, EXITED, finished_ms=5, reason="StartError")
    assert list(proofs(PodView(containers=(created,)), 10)) == []


def test_the_size_is_the_containers_limits_or_the_default() -> None:
    def size(*limits: dict[str, str], volumes: list[Any] = []) -> Size:  # noqa: B006
        containers = [{"name": f"c{n}", "image": "i", "resources": {"limits": limit}} for n, limit in enumerate(limits)]
        return size_of(manifest.read({"spec": {"containers": containers, "volumes": volumes}}), Defaults())

    assert size({}) == Size(1000, 2048, 10_240)
    assert size({"cpu": "250m", "memory": "64Mi"}, {"cpu": "1.5", "memory": "1Gi"}) == Size(1750, 1088, 10_240)
    volumes = [
        {"name": "a", "emptyDir": {"sizeLimit": "100Mi"}},
        {"name": "b", "emptyDir": {}},
        {"name": "c", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ]
    assert size({}, volumes=volumes).disk_mib == 10_240 + 100 + EMPTY_DIR_MIB
    assert EMPTY_DIR_MIB << 20 == spec.DEFAULT_EMPTY_DIR_BYTES


def test_prices_of_instances() -> None:
    pods = PodUsageRow("2026-11", "t", "", 10_000, 20_000_000, 10 * 1024 * 1000, 5 * 1024 * 1000, 1 << 29, 1 << 29)
    tariff = Tariff(vcpu_s_price=1, pod_gb_s_price=0.1, disk_gb_s_price=0.01, traffic_gb_price=0.5)
    told = bill(UsageRow("2026-11", "t", "", 0, 0, 0, 0, 0), tariff, pods)
    assert told["cost"] == 20 + 1 + 0.05 + 0.5
    assert (told["instances"]["vcpu_s"], told["instances"]["gb_s"], told["instances"]["disk_gb_s"]) == (20, 10, 5)


def test_counters_are_read_of_the_pods_own_interface() -> None:
    lo = " lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n"
    table = f"Inter-| Receive\n{lo}  eth0: 70 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n tap0: 1 0\n"
    assert traffic.parse(table) == Traffic(70, 5)
    assert traffic.parse(lo) is None
    assert traffic.read({"gone": "/nonexistent"}) == {}


def test_the_namespace_is_found_in_what_containerd_tells() -> None:
    told = '{"runtimeSpec": {"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}]}}}'
    assert network_namespace(told) == "/run/netns/x"
    for broken in (
        "",
        "{}",
        "[]",
        '{"runtimeSpec": {"linux": null}}',
        '{"runtimeSpec": {"linux": {"namespaces": [1]}}}',
    ):
        assert network_namespace(broken) == ""
