"""An engine of real machines for tests, and a function in which a test does what it likes.

The state folder is kept between runs, so that guest image and templates are made once. Each folder of tests has a
state of its own: two engines on one state would reap each other's machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import subprocess
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alcove.host.files import instance_tag
from alcove.host.network import Network
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import CodeImage, Delivery, Invocation, Isolation, Runtime, Start, TenantId, Workload
from alcove.sandbox.vm import VmSandbox
from alcove.sandbox.vm_tier import VmTier

ROOT = Path("build/test-state")
PLAIN = "def handler(event, context):\n    return event\n"
# ``source`` runs as the tenant; what it leaves in ``result`` is the answer.
ANYTHING = """
import os, random, signal, socket, ssl, subprocess, sys, time, uuid

TOKEN = os.urandom(8).hex()

def handler(event, context):
    scope = {**globals(), "event": event, "context": context}
    exec(event["source"], scope)
    return scope.get("result")
"""


def package(sources: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in sources.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            archive.writestr(info, source)
    return buffer.getvalue()


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Guest:
    """A sandbox under test, with what it printed and how it ended."""

    sandbox: VmSandbox
    logs: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    exits: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.sandbox.listen(log=lambda stream, data: self.logs[stream].extend(data), exit=self.exits.append)

    @property
    def pid(self) -> int:
        return self.sandbox.machine.process.pid

    async def call(self, event: object, timeout_s: float = 30.0, *, shared: bool = False) -> Any:
        self.count += 1
        request = Invocation(
            f"request-{self.count}", json.dumps(event).encode(), int((time.time() + timeout_s) * 1000), shared=shared
        )
        async with asyncio.timeout(timeout_s):
            outcome = await self.sandbox.invoke(request)
        assert outcome.error is None, outcome.error
        return json.loads(outcome.payload)

    async def do(self, source: str, timeout_s: float = 30.0, **event: object) -> Any:
        """Run Python in the function's handler; return its ``result``."""
        return await self.call({"source": source, **event}, timeout_s)

    async def run(self, *argv: str, **options: Any) -> tuple[dict[str, Any], bytes]:
        """Run a program by the agent, to its end; return the report of its end and what it printed on stdout."""
        agent = self.sandbox.agent
        printed = bytearray()
        forward = agent.on_log
        number = -1

        def keep(process: int, stream: int, data: bytes) -> None:
            if stream == 1 and process in (number, -1):
                printed.extend(data)
            forward(process, stream, data)

        agent.on_log = keep
        try:
            (reply,) = await agent.batch({"op": "run", "argv": list(argv), **options})
            number = reply["process"]
            report = await agent.request("wait", process=number)
        finally:
            agent.on_log = forward
        return report, bytes(printed)


@dataclass
class Lab:
    """One engine and its code store."""

    state: Path
    tier: VmTier
    network: Network
    code: CodeStore
    guests: list[Guest] = field(default_factory=list)

    @property
    def tag(self) -> str:
        return instance_tag(self.state)

    async def workload(self, source: str = ANYTHING, **options: Any) -> Workload:
        built = await self.code.build(package({"app.py": source}), python=True)
        workload = Workload(
            tenant=TenantId("tenant-a"),
            function_name="sample",
            version="1",
            arn="arn:sample:1",
            runtime=Runtime.PYTHON,
            handler="app.handler",
            code=CodeImage(built.digest, built.path),
            memory_mib=1769,
            timeout_s=60,
        )
        return replace(workload, **options)

    def guest(self, sandbox: VmSandbox) -> Guest:
        guest = Guest(sandbox)
        self.guests.append(guest)
        return guest

    async def start(self, how: Start | None = None) -> Guest:
        return self.guest(await self.tier.start(Runtime.PYTHON, how))

    async def load(
        self, source: str = ANYTHING, *, delivery: Delivery = Delivery.MOUNTED, how: Start | None = None, **options: Any
    ) -> Guest:
        guest = await self.start(how)
        await guest.sandbox.load(await self.workload(source, **options), delivery)
        await guest.sandbox.settled()
        return guest

    async def close(self, *, show: bool) -> None:
        """Close what a test has started; ``show`` each machine's command line and console: the test failed."""
        for guest in self.guests:
            machine = guest.sandbox.resources.machine
            if show and machine is not None and not guest.sandbox.ended:
                command = Path(f"/proc/{machine.process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                print(f"--- {guest.sandbox.id}: {command}\n{(await machine.console())[-4000:]}")
            if show:
                print(f"--- {guest.sandbox.id} ended {guest.exits}, stderr: {bytes(guest.logs[2][-2000:])!r}")
            await guest.sandbox.close()
        self.guests.clear()


@contextlib.asynccontextmanager
async def open_lab(state: Path, *, waiting: int = 0) -> AsyncIterator[Lab]:
    assert os.geteuid() == 0, "these tests start real machines: run them as root"
    state.mkdir(parents=True, exist_ok=True)
    images = ROOT / "images"
    images.mkdir(parents=True, exist_ok=True)
    if not (state / "images").exists():
        (state / "images").symlink_to(images.resolve())
    async with AsyncExitStack() as stack:
        tiers, network = await open_engine(stack, state=state, waiting=waiting, isolations=frozenset({Isolation.VM}))
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        await tier.recover()
        await network.recover(set())
        await tier.prepare(Runtime.PYTHON, print)
        code = CodeStore(state / "code")
        stack.callback(code.close)
        yield Lab(state, tier, network, code)


def command(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def leftovers(state: Path, sandbox: str = "s-") -> list[str]:
    """Return what this machine still has of the sandboxes of an instance."""
    tag = instance_tag(state)
    found = [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/alcove-{tag}/{sandbox}*")]
    found += [f"folder {path}" for path in (state / "sandboxes").glob("*") if path.name.startswith(sandbox)]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"alcove-{tag}/{sandbox}" in (process / "cgroup").read_text():
                found.append(f"process {process.name}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if str(state) in line and f"/{sandbox}" in line]
    if sandbox == "s-" and Path(f"/run/netns/alcove-{tag}").exists():
        inside = ("ip", "netns", "exec", f"alcove-{tag}")
        links = json.loads(command(*inside, "ip", "-j", "link"))
        found += [f"tap {link['ifname']}" for link in links if link["ifname"].startswith("t")]
        ports = json.loads(command(*inside, "nft", "-j", "list", "set", "bridge", "alcove", "ports"))
        found += [f"port {port}" for entry in ports["nftables"] for port in entry.get("set", {}).get("elem", [])]
    return found


def instance_leftovers(state: Path) -> list[str]:
    """Return what this machine still has of an instance that was taken down."""
    tag = instance_tag(state)
    found = leftovers(state)
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"*/alcove-{tag}")]
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"alcove-{tag}")]
    found += [f"namespace {path}" for path in Path("/run/netns").glob(f"alcove-{tag}*")]
    found += [f"device {path}" for path in Path("/sys/class/net").glob(f"alc{tag}")]
    if f"alcove-{tag}" in command("nft", "list", "tables"):
        found.append("nftables table")
    return found
