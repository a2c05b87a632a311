"""The control plane as a process of its own, over a tier without machines and a real containerd: all that instances
need, ready in a second. ``python -m tests.instances.plane STATE RUN NAME=VALUE ...``
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

from tests.brokers import free_port
from tests.forwarding import COMMAND, Forwarding, forwarding

from alcove.cli.client import Client
from alcove.host import process
from alcove.host.files import instance_tag
from alcove.host.process import ProcessIdentity

# With the guest image of pods, where it must be made first.
START_S = 300


class Plane:
    """``start``, then ``stop`` (SIGTERM) or ``kill`` (SIGKILL). ``cli`` runs our commands against it."""

    def __init__(self, state: Path, run: Path, **settings: str) -> None:
        self.state, self.run, self.settings = state, run, settings
        self.process: subprocess.Popen[bytes] | None = None
        self.log = run / "plane.log"
        # What tells one boot of the host from another, where it is not the kernel.
        self.boot: Path | None = None

    def start(self) -> Plane:
        self.run.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.call("GET", "/alcove/v1/pods")
                return self
            except Exception:
                assert self.process.poll() is None, self.tail()
                assert time.monotonic() < deadline, self.tail()
                time.sleep(0.05)

    def command(self) -> list[str]:
        own = {} if self.boot is None else {"boot": str(self.boot)}
        given = [f"{name}={value}" for name, value in (self.settings | own).items()]
        return [sys.executable, "-m", "tests.instances.plane", str(self.state), str(self.run), *given]

    def call(self, method: str, path: str, document: Any = None) -> Any:
        return Client(self.run).call(method, path, document)

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *arguments]
        environment = {**os.environ, "ALCOVE_RUN": str(self.run)}
        return subprocess.run(command, capture_output=True, text=True, input=stdin, env=environment, timeout=120)

    def forwarding(self, name: str, *ports: str) -> AbstractContextManager[Forwarding]:
        """Forward ports (``:80``); yield the command and the ports here."""
        return forwarding(self.run, name, *ports)

    def pod(self, name: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/alcove/v1/pods/{name}"))

    @property
    def url(self) -> str:
        """Where tenants call, with signatures."""
        return f"http://127.0.0.1:{(self.run / 'port').read_text()}"

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def containerd(self) -> ProcessIdentity:
        return ProcessIdentity.from_json(json.loads((self.state / "containerd/process.json").read_text()))

    def leftovers(self) -> list[str]:
        """Return what of pods and containerd is on this machine."""
        found = [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.state) in line]
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.run) in line]
        tag = instance_tag(self.state)
        found += [path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(f"alc{tag}")]
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace") if folder.name.isdigit() else ""
                if str(self.run / "containerd") in words or str(self.state / "containerd") in words:
                    found.append(f"{folder.name} {words}")
        return found


class VmPlane(Plane):
    """The real server, with its machines."""

    def __init__(self, state: Path, run: Path, **settings: str) -> None:
        super().__init__(state, run, **settings)
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def command(self) -> list[str]:
        given = {
            **{"state": self.state, "run": self.run, "listen": f"127.0.0.1:{self._port}", "s3_listen": "127.0.0.1:0"},
            **{"pool_python": 0, "pool_nodejs": 0, "pool_provided": 0, "isolation_allowed": "vm,gvisor,process"},
            **self.settings,
        }
        program = "from alcove.cli import main; main()"
        if self.boot is not None:
            path = f"pathlib.Path({str(self.boot)!r})"
            program = f"import pathlib; from alcove.host import process; process.BOOT_ID = {path}; {program}"
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        return [sys.executable, "-c", program, "serve", *flags]

    def leftovers(self) -> list[str]:
        tag = instance_tag(self.state)
        found = super().leftovers()
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/alcove-{tag}/*") if path.is_dir()]
        found += [str(path) for path in (self.state / "pods").iterdir()]
        found += [str(path) for path in (self.run / "shims").glob("*.sock")]
        return found + machines(self.state)


def machines(state: Path) -> list[str]:
    """Return the processes of VMMs that this server's jail holds, but for machines that wait for a pod to be."""
    found, waiting = [], {str(pid) for pid in vacant(state).values()}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            # By executable: a test's own command line may name the state folder too.
            if folder.name.isdigit() and "qemu" in os.readlink(folder / "exe"):
                found += [folder.name] if str(state / "jail") in os.readlink(folder / "root") else []
    return [pid for pid in found if pid not in waiting]


def vacant(state: Path) -> dict[str, int]:
    """Return the ids of machines that are nobody's yet, with their pids (0: none yet)."""
    found = {}
    for path in (state / "pods").glob("*/record.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(path.read_text())
            if not record["spec"]["pod"]:
                found[path.parent.name] = (record["process"] or {"pid": 0})["pid"]
    return found


async def _serve(state: Path, run: Path, given: dict[str, str]) -> None:
    from alcove.api.app import App
    from alcove.composition import open_services
    from alcove.sandbox.protocol import Isolation
    from alcove.settings import load_settings

    class Host:
        def health(self) -> dict[str, Any]:
            return {"status": "ok"}

        def endpoint(self) -> str:
            return ""

        s3_endpoint = endpoint

    from tests.fakes import FakeKernelTier

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    settings = load_settings(environment={}, flags={"state": state, "run": run, **given})
    async with AsyncExitStack() as stack:
        services = await open_services(stack, settings, {Isolation.VM: FakeKernelTier()})
        await services.start(stack)
        server = App(Host(), services).server()
        stack.push_async_callback(server.close, 1.0)
        port = await server.listen_tcp("127.0.0.1", 0)
        (run / "port").write_text(str(port))
        await server.listen_unix(settings.api_socket)
        await stopped.wait()


if __name__ == "__main__":
    import logging

    import uvloop

    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    options = dict(pair.split("=", 1) for pair in sys.argv[3:])
    if "boot" in options:
        process.BOOT_ID = Path(options.pop("boot"))
    uvloop.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]), options))
