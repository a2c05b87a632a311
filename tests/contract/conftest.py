"""Real tiers, brought up once each as the daemon does it, and a package that does what it is asked, good or bad."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from tests.brokers import Broker, rabbitmq_server, redis_server

from alcove.host.files import instance_tag
from alcove.host.mounts import mounts_under
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import (
    CodeImage,
    Invocation,
    Isolation,
    Runtime,
    Sandbox,
    TenantId,
    Tier,
    Workload,
)

# Guest images are large and the same for all: built once here, also for those who run the suite again.
IMAGES = Path(os.environ.get("ALCOVE_TEST_IMAGES", "build/test-state/images")).resolve()
PROGRAMS = {
    Isolation.VM: "/usr/bin/qemu-system-x86_64",
    Isolation.GVISOR: "/usr/bin/runsc",
    Isolation.PROCESS: "/usr/sbin/runc",
}
APP = """
import os, signal, sys, time

def channels():
    yield 0
    for fd in range(3, 64):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(("socket:", "host:")) or "vport" in target or "virtio" in target:
            yield fd

MET = []

def handler(event, context):
    do = event.get("do", "echo")
    if do == "echo":
        print("printed by the handler", flush=True)
        return {"echo": event, "function": context.function_name, "user": os.getuid()}
    if do == "stream":
        return (b"x" * 65536 for _ in range(event["parts"]))
    if do == "meet":
        # Answered only where all are inside at once.
        MET.append(do)
        while len(MET) < event["parties"]:
            time.sleep(0.01)
        return "met"
    if do == "raise":
        raise ValueError("as asked")
    if do == "exit":
        os._exit(3)
    if do == "signal":
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGABRT)
        os.abort()
    if do == "close":
        for fd in list(channels()):
            os.close(fd)
        time.sleep(0.3)
        os._exit(0)
    if do == "garbage":
        for fd in list(channels()):
            try:
                os.write(fd, b"\\xff" * 4096)
            except OSError:
                pass
        time.sleep(5)
    if do == "hog":
        held = []
        while True:
            held.append(bytearray(b"x" * (4 << 20)))
    if do == "hold":
        held = bytearray(b"x" * (event["mib"] << 20))
        time.sleep(event["seconds"])
        return "held"
    if do == "flood":
        for _ in range(event["mib"]):
            sys.stdout.write("x" * ((1 << 20) - 1) + "\\n")
        sys.stdout.flush()
        return "flooded"
    if do == "layers":
        import layered, subprocess
        return {
            "opt": sorted(os.listdir("/opt")),
            "task": sorted(name for name in os.listdir("/var/task") if not name.startswith("__")),
            "text": open("/opt/data/text").read(),
            "imported": layered.VALUE,
            "tool": subprocess.run(["tool"], capture_output=True, text=True).stdout,
            "ours": os.path.exists("/opt/alcove/start"),
        }
    if do == "write":
        try:
            open(event["path"], "w").close()
        except OSError as error:
            return type(error).__name__
        return "written"
"""
# The second one's files replace the first one's.
LAYERS = (
    {"data/text": "first", "python/layered.py": "VALUE = 'layer'\n", "bin/tool": "#!/bin/sh\necho old\n"},
    {"data/text": "second", "bin/tool": "#!/bin/sh\necho new\n", "lib/note": ""},
)
SOURCES = {"app.py": APP, "broken.py": "raise KeyError('at import')\n"}


@dataclass
class Bench:
    """One tier with what a test needs around it."""

    tier: Tier
    state: Path
    tag: str
    code: CodeImage
    layered: CodeImage
    logs: dict[int, bytearray] = field(default_factory=dict)
    exits: list[str] = field(default_factory=list)

    def workload(self, handler: str = "app.handler", memory_mib: int = 512, code: CodeImage | None = None) -> Workload:
        return Workload(
            tenant=TenantId("tenant-a"),
            function_name="sample",
            version="1",
            arn="arn:sample:1",
            runtime=Runtime.PYTHON,
            handler=handler,
            code=code or self.code,
            memory_mib=memory_mib,
            timeout_s=30,
        )

    async def start(self, runtime: Runtime = Runtime.PYTHON) -> Sandbox:
        sandbox = await self.tier.start(runtime)
        self.logs, self.exits = {1: bytearray(), 2: bytearray()}, []
        logs, exits = self.logs, self.exits
        sandbox.listen(log=lambda stream, data: logs[stream].extend(data), exit=exits.append)
        return sandbox

    def leftovers(self, sandbox_id: str = "") -> list[str]:
        """Return what this machine still has of the sandbox, or of any sandbox of the instance."""
        found = [f"mount {point}" for point in mounts_under(self.state / "sandboxes")]
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                if backing.read_text().startswith(str(self.code.path)):
                    found.append(f"loop {backing}")
            except OSError:
                continue
        name = sandbox_id or "s-"
        found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/alcove-{self.tag}/{name}*")]
        found += [f"folder {path}" for path in (self.state / "sandboxes").glob(f"{name}*")]
        for process in Path("/proc").glob("[0-9]*/cgroup"):
            try:
                if f"alcove-{self.tag}/{name}" in process.read_text():
                    found.append(f"process {process.parent.name}")
            except OSError:
                continue
        if not sandbox_id:
            found += [f"namespace {path}" for path in Path("/run/netns").glob(f"alcove-{self.tag}-t*")]
        return found


def invocation(event: bytes, request_id: str = "request-1") -> Invocation:
    return Invocation(request_id, event, deadline_ms=4_102_444_800_000, arn="arn:sample:1")


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def package(sources: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in sources.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.external_attr = (0o755 if name.startswith("bin/") else 0o644) << 16
            archive.writestr(info, source)
    return buffer.getvalue()


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(Isolation), ids=str)
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    isolation = Isolation(request.param)
    if os.geteuid() != 0:
        pytest.skip("sandboxes need root")
    if not Path(PROGRAMS[isolation]).exists():
        pytest.skip(f"{PROGRAMS[isolation]} is not installed")
    state = tmp_path_factory.mktemp(f"state-{isolation}")
    IMAGES.mkdir(parents=True, exist_ok=True)
    (state / "images").symlink_to(IMAGES)
    async with AsyncExitStack() as stack:
        tiers, _ = await open_engine(
            stack, state=state, isolations=frozenset({isolation}), accelerator="auto", waiting=0
        )
        store = CodeStore(state / "code")
        stack.callback(store.close)
        built = await store.build(package(SOURCES), python=True)
        layers = [(await store.store_layer(package(sources)))[0] for sources in LAYERS]
        both = await store.build(package(SOURCES), python=True, layers=layers)
        layered = CodeImage(both.digest, both.path, layered=True)
        tier = tiers[isolation]
        stack.push_async_callback(tier.close)
        await tier.recover()
        await tier.prepare(Runtime.PYTHON)
        yield Bench(tier, state, instance_tag(state), CodeImage(built.digest, built.path), layered)
    assert not mounts_under(state)
    shutil.rmtree(state)


@pytest_asyncio.fixture(loop_scope="session")
async def load(bench: Bench) -> AsyncIterator[Callable[..., Awaitable[Sandbox]]]:
    """Return a function that starts and loads a sandbox, which is closed after the test."""
    started: list[Sandbox] = []

    async def start_and_load(**options: object) -> Sandbox:
        sandbox = await bench.start()
        started.append(sandbox)
        await sandbox.load(bench.workload(**options))  # type: ignore[arg-type]
        return sandbox

    yield start_and_load
    for sandbox in started:
        await sandbox.close()


@pytest.fixture(scope="session")
def redis_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with redis_server(tmp_path_factory.mktemp("redis")) as broker:
        yield broker


@pytest.fixture(scope="session")
def rabbit_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as broker:
        yield broker
