"""``alcove bench``: the commands behind the figures in docs/specification.md."""

from __future__ import annotations

import asyncio
import json
import platform
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from alcove.bench import burst as burst_bench
from alcove.bench import density as density_bench
from alcove.bench import disk as disk_bench
from alcove.bench import disk_print
from alcove.bench import end_to_end as whole_bench
from alcove.bench import fresh_vm as fresh_bench
from alcove.bench import gateway as gateway_bench
from alcove.bench import gateway_cpu as cpu_bench
from alcove.bench import gateway_load as load_bench
from alcove.bench import instances as instances_bench
from alcove.bench import overload as overload_bench
from alcove.bench import pod as pod_bench
from alcove.bench import registry as registry_bench
from alcove.bench import startup as startup_bench
from alcove.bench import timers as timers_bench
from alcove.bench.figures import Figures, Ratio, percentile, print_ratios, write_report
from alcove.sandbox.protocol import Isolation

T = TypeVar("T")
_STATE = Path("build/bench")
_PANDAS = Path("build/examples/python-pandas")
DENSITY_LIMIT_MIB = 70.0
BURST_LEAST = 0.8
GATEWAY_LIMIT_MS = 3.0
CALLS_PER_CPU_S = 12_000.0
# By share: the median and the 99th percentile.
LOAD_LIMITS_MS = {0.5: 1.0, 0.99: 5.0}
# Ten times the lower of what Fission publishes for a core, 440 to 690.
END_TO_END = 4_400.0
OVERLOAD_LIMIT = 2.0
FRESH_LIMIT = 1.5


# What a shell shows for a program that SIGTERM has ended.
_TERMINATED = 128 + signal.SIGTERM


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a measurement; SIGTERM ends it as Ctrl-C does, with its machines."""

    async def run() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        sys.exit(_TERMINATED)


def _facts() -> dict[str, Any]:
    return {"kernel": platform.release(), "processor": platform.machine(), "python": platform.python_version()}


def _conclude(console: Console, figures: Figures, ratios: list[Ratio], report: Path | None) -> None:
    print_ratios(console, ratios)
    if report is not None:
        write_report(report, figures, ratios, _facts())


@click.group()
def group() -> None:
    """Measure start-up times, memory and bursts on this machine.

    \b
    Examples:
      alcove bench startup --json build/startup.json
      alcove bench density --machines 100
      alcove bench burst
      alcove bench disk
      alcove bench gateway
      alcove bench fresh-vm
      alcove bench gateway-cpu
      alcove bench gateway-load
      alcove bench end-to-end --tier process
      alcove bench overload --seconds 60
      alcove bench pod
      alcove bench pods --count 50
      alcove bench registry
      alcove bench timers
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))


_state = click.option(
    "--state", type=click.Path(path_type=Path), default=_STATE, show_default=True, help="The engine's folder."
)
_json = click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to this file.")


@group.command()
@_state
@_json
@click.option("--rounds", default=20, show_default=True, help="Samples of each start mode.")
@click.option("--booted-vms", default=3, show_default=True, help="Samples of a VM's cold boot, which takes seconds.")
@click.option(
    "--pandas",
    type=click.Path(path_type=Path),
    default=_PANDAS,
    show_default=True,
    help="A folder with pandas unpacked (make examples).",
)
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    type=click.Choice([str(tier) for tier in Isolation]),
    help="Only these tiers.",
)
def startup(
    state: Path, report: Path | None, rounds: int, booted_vms: int, pandas: Path, tiers: tuple[str, ...]
) -> None:
    """The paper's table 1: every way to start, for every tier, interleaved."""
    console = Console()
    with console.status("starting") as status:
        bench = _run(
            startup_bench.measure(
                state.resolve(),
                rounds=rounds,
                booted_vm_rounds=booted_vms,
                pandas=pandas if pandas.exists() else None,
                isolations=frozenset(map(Isolation, tiers)) or frozenset(Isolation),
                progress=lambda line: status.update(line),
            )
        )
    bench.figures.print(console, "Start until the first answer")
    for (tier, mode, function), phases in bench.phases.items():
        cost = ", ".join(f"{name} {spent:.1f}" for name, spent in phases.items())
        console.print(f"[dim]{tier} {mode} {function}: {cost} (ms, last round)[/]")
    _conclude(console, bench.figures, startup_bench.ratios(bench.figures), report)


@group.command()
@_state
@_json
@click.option("--machines", default=100, show_default=True, help="Idle VMs at once.")
def density(state: Path, report: Path | None, machines: int) -> None:
    """Memory of each idle function VM (Pss), and whether all of them answer."""
    console = Console()
    with console.status("starting") as status:
        found = _run(density_bench.measure(state.resolve(), machines=machines, progress=status.update))
    console.print(
        f"{found.machines} idle VMs: Pss mean {found.mean_mib:.1f} MiB, p99 {found.p99_mib:.1f} MiB;"
        f" {found.answered} answered afterwards"
    )
    print_ratios(console, [Ratio("Pss of an idle VM, MiB (mean)", found.mean_mib, DENSITY_LIMIT_MIB)])
    if report is not None:
        document = {
            "machines": found.machines,
            "answered": found.answered,
            "pss_mean_mib": found.mean_mib,
            "pss_p99_mib": found.p99_mib,
        }
        report.write_text(json.dumps(document) + "\n")
    if found.answered != found.machines:
        raise click.ClickException("not every machine answered")


@group.command()
@_state
@_json
@click.option("--machines", default=20, show_default=True, help="Starts in each round.")
@click.option("--at-once", default=4, show_default=True, help="Starts side by side.")
@click.option("--rounds", default=5, show_default=True)
def burst(state: Path, report: Path | None, machines: int, at_once: int, rounds: int) -> None:
    """Restored VMs a second, against bare QEMU restores."""
    console = Console()
    with console.status("starting") as status:
        found = _run(
            burst_bench.measure(
                state.resolve(), machines=machines, at_once=at_once, rounds=rounds, progress=status.update
            )
        )
    console.print(
        f"functions answered: {found.functions_per_s:.2f}/s; machines restored and personalised:"
        f" {found.machines_per_s:.2f}/s; bare QEMU, restored and personalised: {found.floor_per_s:.2f}/s,"
        f" until the agent's first answer: {found.answers_per_s:.2f}/s"
    )
    print_ratios(console, [Ratio("bare / engine, machines a second", 1 / found.ratio, 1 / BURST_LEAST)])
    if report is not None:
        document = {
            "functions_per_s": found.functions_per_s,
            "machines_per_s": found.machines_per_s,
            "floor_per_s": found.floor_per_s,
            "answers_per_s": found.answers_per_s,
            "ratio": found.ratio,
        }
        report.write_text(json.dumps(document) + "\n")


@group.command()
@_state
@_json
@click.option("--rounds", default=3, show_default=True, help="Of every job in every place.")
@click.option("--seconds", default=1.0, show_default=True, help="Of each job.")
@click.option("--ways/--no-ways", default=True, show_default=True, help="Whether other ways to serve disks are tried.")
def disk(state: Path, report: Path | None, rounds: int, seconds: float, ways: bool) -> None:
    """fio in a pod: an emptyDir against virtio-fs and against the host. Takes eight minutes; fio must be installed.

    \b
    Examples:
      alcove bench disk
      alcove bench disk --no-ways --rounds 5 --json build/disk.json
    """
    console = Console()
    with console.status("starting") as status:
        work = disk_bench.measure(state.resolve(), rounds=rounds, seconds=seconds, ways=ways, progress=status.update)
        found = _run(work)
    disk_print.print_places(console, found)
    disk_print.print_ways(console, found)
    print_ratios(console, found.ratios())
    if report is not None:
        report.write_text(json.dumps(disk_print.document(found, _facts())) + "\n")


@group.command()
@_state
@_json
@click.option("--calls", default=500, show_default=True, help="Warm calls, one after the other.")
def gateway(state: Path, report: Path | None, calls: int) -> None:
    """What a warm call costs over its handler, through a whole server."""
    console = Console()
    with console.status("starting") as status:
        figures = gateway_bench.measure(state.resolve() / "gateway", calls=calls, progress=status.update)
    figures.print(console, "Warm calls, signed, on one connection")
    difference = figures.p50("vm", "difference", "hello")
    ratio = Ratio("warm call through the gateway less the handler, ms", difference, GATEWAY_LIMIT_MS)
    _conclude(console, figures, [ratio], report)


@group.command("gateway-cpu")
@_json
@click.option("--connections", default=16, show_default=True, help="Clients, each with one call at a time.")
@click.option("--seconds", default=10.0, show_default=True, help="Of each way to call.")
def gateway_cpu(report: Path | None, connections: int, seconds: float) -> None:
    """Calls answered for each second of the server's processor time, against stand-in sandboxes."""
    console = Console()
    with console.status("starting") as status:
        found = cpu_bench.measure(connections=connections, seconds=seconds, progress=status.update)
    for one in found:
        console.print(
            f"{one.way}: {one.calls} calls in {one.wall_s:.1f} s for {one.cpu_s:.2f} s of processor time:"
            f" {one.per_cpu_second:.0f} calls a CPU-second"
        )
    name = f"{CALLS_PER_CPU_S:.0f} / calls a CPU-second"
    ratios = [Ratio(f"{name}, {one.way}", CALLS_PER_CPU_S / one.per_cpu_second, 1) for one in found]
    _conclude(console, Figures(), ratios, report)


@group.command("gateway-load")
@_json
@click.option("--connections", default=16, show_default=True, help="Over which calls are sent.")
@click.option("--seconds", default=15.0, show_default=True, help="Of calls at half the capacity.")
def gateway_load(report: Path | None, connections: int, seconds: float) -> None:
    """Latency at half of what the gateway can do, against stand-in sandboxes that answer at once."""
    console = Console()
    with console.status("starting") as status:
        found = load_bench.measure(connections=connections, seconds=seconds, progress=status.update)
    figures = Figures()
    figures.samples["stand-in", "function URL", f"{found.rate:.0f} a second"] = found.ms
    figures.print(console, f"Half of a capacity of {found.capacity:.0f} calls a second")
    ratios = [
        Ratio(f"p{share * 100:.0f} of what the gateway adds, ms", percentile(found.ms, share), limit)
        for share, limit in LOAD_LIMITS_MS.items()
    ]
    _conclude(console, figures, ratios, report)


@group.command("end-to-end")
@_state
@_json
@click.option("--connections", default=8, show_default=True, help="Clients, each with one call at a time.")
@click.option("--seconds", default=10.0, show_default=True, help="Of each tier.")
@click.option("--tier", "tiers", multiple=True, default=["process", "vm"], show_default=True, help="May be repeated.")
def end_to_end(state: Path, report: Path | None, connections: int, seconds: float, tiers: tuple[str, ...]) -> None:
    """Calls for each second of processor time of server and sandboxes together, by a real handler."""
    console = Console()
    with console.status("starting") as status:
        found = whole_bench.measure(
            state.resolve() / "end-to-end", tiers, connections=connections, seconds=seconds, progress=status.update
        )
    for one in found:
        console.print(
            f"{one.tier}: {one.calls} calls for {one.server_s:.2f} s of the server's processor time and"
            f" {one.sandboxes_s:.2f} s of the sandboxes': {one.per_core:.0f} a second of one core"
        )
    name = f"{END_TO_END:.0f} / calls a core-second, end to end"
    # A machine's share is the host's: under software emulation nothing but the emulator would be measured.
    held = [one for one in found if one.tier == "process"]
    _conclude(console, Figures(), [Ratio(f"{name}, {one.tier}", END_TO_END / one.per_core, 1) for one in held], report)


@group.command()
@_json
@click.option("--capacity", default=16, show_default=True, help="Calls that may run at once.")
@click.option("--handler-ms", default=100, show_default=True, help="What a handler takes.")
@click.option("--seconds", default=60.0, show_default=True, help="Of overload, in each of the two runs.")
def overload(report: Path | None, capacity: int, handler_ms: int, seconds: float) -> None:
    """Ten times the capacity, against caps and against room: who is let in keeps its latency."""
    console = Console()
    figures, ratios = Figures(), []
    with console.status("starting") as status:
        runs = overload_bench.measure(capacity=capacity, handler_ms=handler_ms, seconds=seconds, progress=status.update)
    for one in runs:
        for mode, samples in (("alone", one.alone_ms), ("accepted", one.accepted_ms), ("refused", one.refused_ms)):
            figures.samples[one.kind, mode, f"{handler_ms} ms"] = samples
        highest = one.highest
        console.print(
            f"{one.kind}: {one.offered} offered, {len(one.accepted_ms)} accepted, {len(one.refused_ms)} answered 429;"
            f" at once at most {highest['all']} of {one.caps[0]}, reserved {highest[overload_bench.RESERVED]} of"
            f" {one.caps[1]}; left afterwards: {one.left}"
        )
        slower = percentile(one.accepted_ms, 0.99) / percentile(one.alone_ms, 0.99)
        ratios.append(Ratio(f"{one.kind}: p99 of accepted / alone", slower, OVERLOAD_LIMIT))
        ratios.append(Ratio(f"{one.kind}: caps exceeded, calls left", float(one.exceeded + one.left), 0))
    figures.print(console, "Overload")
    _conclude(console, figures, ratios, report)


@group.command("fresh-vm")
@_state
@_json
@click.option("--calls", default=30, show_default=True, help="Of each kind.")
def fresh_vm(state: Path, report: Path | None, calls: int) -> None:
    """A new machine for every request: its price, warm and against a bare restore."""
    console = Console()
    with console.status("starting") as status:
        figures = fresh_bench.measure(state.resolve() / "gateway", calls=calls, progress=status.update)
    figures.print(console, "Calls of a published version")
    restore = figures.p50("vm", "restore", "hello")
    ratios = [
        Ratio(f"{mode} / a snapshot's restore, p50", figures.p50("vm", mode, "hello") / restore, FRESH_LIMIT)
        for mode in ("fresh, with pauses", "fresh, one after the other")
    ]
    _conclude(console, figures, ratios, report)


@group.command()
@_state
@_json
@click.option("--functions", default=20_000, show_default=True, help="Functions to register.")
@click.option("--calls", default=3000, show_default=True, help="Warm calls, one after the other, each time.")
def registry(state: Path, report: Path | None, functions: int, calls: int) -> None:
    """What many registered functions cost: warm calls, control calls, memory. No machine is started."""
    console = Console()
    with console.status("starting") as status:
        found = registry_bench.measure(
            state.resolve() / "registry", functions=functions, calls=calls, progress=status.update
        )
    found.figures.print(console, "Requests over the UNIX socket, stand-in for the machines")
    console.print(
        f"memory of the server: {found.rss_few_mib:.0f} MiB with {registry_bench.FEW} functions,"
        f" {found.rss_many_mib:.0f} MiB with {functions}; started again with them in {found.start_s:.1f} s"
    )
    _conclude(console, found.figures, registry_bench.ratios(found, functions), report)


@group.command()
@_state
@_json
@click.option("--instances", default=50_000, show_default=True, help="Records of instances.")
@click.option("--rounds", default=300, show_default=True, help="Requests of each kind.")
def instances(state: Path, report: Path | None, instances: int, rounds: int) -> None:
    """What many instances' records cost: lists, gets, memory. No container is started."""
    console = Console()
    with console.status("starting") as status:
        found = instances_bench.measure(
            state.resolve() / "instances", instances=instances, rounds=rounds, progress=status.update
        )
    found.figures.print(console, "Requests over the UNIX socket")
    console.print(
        f"memory of the server: {found.rss_mib:.0f} MiB with {instances} instances;"
        f" started with them in {found.start_s:.1f} s"
    )
    _conclude(console, found.figures, instances_bench.ratios(found), report)


@group.command()
@_state
@_json
@click.option("--timers", default=5000, show_default=True, help="Timers, each due once a minute.")
def timers(state: Path, report: Path | None, timers: int) -> None:
    """How late timers fire. Takes two to four minutes, of the clock. No machine is started."""
    console = Console()
    with console.status("starting") as status:
        figures = _run(timers_bench.measure(state.resolve() / "timers", timers=timers, progress=status.update))
    figures.print(console, "Lateness of a timer's run")
    _conclude(console, figures, timers_bench.ratios(figures), report)


_waiting = click.option("--waiting", default=1, show_default=True, help="Machines that wait for pods.")


@group.command()
@_state
@_json
@click.option("--rounds", default=20, show_default=True, help="Pods of each kind.")
@click.option("--pause", default=4.0, show_default=True, help="Seconds of rest before each pod.")
@_waiting
def pod(state: Path, report: Path | None, rounds: int, pause: float, waiting: int) -> None:
    """Pods in machines against pods of runc, through one containerd."""
    console = Console()
    with console.status("starting") as status:
        figures = _run(
            pod_bench.measure(state.resolve(), rounds=rounds, pause_s=pause, waiting=waiting, progress=status.update)
        )
    figures.print(console, "By CRI")
    console.print(f"exec, p50: {pod_bench.exec_difference_ms(figures):.1f} ms more than runc's")
    _conclude(console, figures, pod_bench.ratios(figures), report)


@group.command()
@_state
@_json
@click.option("--count", default=50, show_default=True, help="Pods at once.")
@click.option("--pause", default=4.0, show_default=True, help="Seconds of rest before each pod.")
@_waiting
def pods(state: Path, report: Path | None, count: int, pause: float, waiting: int) -> None:
    """Many pods at once: memory of each, how starts slow down, what is left."""
    console = Console()
    with console.status("starting") as status:
        found = _run(
            pod_bench.crowd(state.resolve(), count=count, pause_s=pause, waiting=waiting, progress=status.update)
        )
    figures = Figures()
    figures.samples["vm", "start", "pod"] = found.start_ms
    figures.print(console, "Pod with a container")
    machine, shim = percentile(found.machine_mib, 0.5), percentile(found.shim_mib, 0.5)
    console.print(
        f"{count} pods: machine {machine:.1f} MiB, shim {shim:.1f} MiB each (Pss, p50);"
        f" {found.answered} answered; left afterwards: {', '.join(found.left) or 'nothing'}"
    )
    _conclude(console, figures, [Ratio("last starts / first starts, p50", found.slower, pod_bench.LAST_LIMIT)], report)
    if found.answered != count or found.left:
        raise click.ClickException("not every pod answered, or something was left")
