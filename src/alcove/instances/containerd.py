"""A private containerd: configured, started, watched and started anew; found again by a daemon that starts.

Pods outlive both it and the daemon, for each has a shim of its own. It is known again by its record (pid, start time,
boot): a daemon that was killed left it running, and the next one adopts it, unless its configuration has changed; then
it is started anew, which containers do not notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
from pathlib import Path

from alcove.errors import AlcoveError, HostError
from alcove.host.files import private_folder, write_json
from alcove.host.process import Process, ProcessIdentity, spawn
from alcove.instances import containerd_config, firewall, launcher, pause
from alcove.instances.containerd_config import ContainerdSpec
from alcove.instances.cri import Cri, Unavailable

log = logging.getLogger(__name__)

PROGRAM = Path("/usr/bin/containerd")
_CTR = "/usr/bin/ctr"
# Of CRI.
_NAMESPACE = "k8s.io"
_PACKAGES = "containerd containernetworking-plugins"
# The first start on a busy disk takes seconds.
START_S = 60.0
STOP_S = 10.0
BACKOFF_S = (0.2, 10.0)
# What it logs: beyond this the file is begun anew when it starts.
LOG_LIMIT = 16 << 20
# CAP_SYS_RESOURCE (capabilities(7)).
_SYS_RESOURCE = 24


class Containerd:
    """``start``, then ``close``. ``socket`` is where it answers."""

    def __init__(self, spec: ContainerdSpec) -> None:
        self.spec = spec
        self.socket = spec.socket
        self._record = spec.root / "process.json"
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Adopt the one that runs, or start one; return when it answers. Raises ``HostError``."""
        changed = await asyncio.to_thread(self._configure)
        self._process = self._adopt()
        if self._process is not None and changed:
            await self._end(self._process)
            self._process = None
        if self._process is None:
            self._process = self._spawn()
        await self._answering(self._process)
        await self._import_pause()
        self._watch = asyncio.create_task(self._keep_up())

    async def close(self) -> None:
        """End it; the pods go on, and the next one finds them."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._process is not None:
            await self._end(self._process)
            self._process = None
            self._record.unlink(missing_ok=True)
            await asyncio.to_thread(remove_bridge, self.spec.bridge)

    def _configure(self) -> bool:
        """Write what it reads; return whether its own configuration is another than before."""
        spec = self.spec
        if not PROGRAM.exists():
            raise HostError(
                "containerd is not installed", hint="apt-get install containerd containernetworking-plugins"
            )
        # The last: in namespaces that it finds there, it removes from its root what tasks before the host's last start
        # have left; without one it does not look.
        for folder in (spec.root, spec.state, spec.networks, spec.hosts, spec.tasks / _NAMESPACE):
            private_folder(folder)
        (spec.networks / "10-alcove.conflist").write_text(containerd_config.network(spec))
        for registry, mirrors in spec.mirrors.items():
            private_folder(spec.hosts / registry)
            (spec.hosts / registry / "hosts.toml").write_text(containerd_config.hosts(registry, mirrors))
        launcher.write(spec.root, spec.run)
        firewall.load(spec.bridge, spec.subnet)
        wanted = containerd_config.render(spec)
        before = spec.config.read_text() if spec.config.exists() else ""
        spec.config.write_text(wanted)
        return bool(wanted != before)

    def _adopt(self) -> Process | None:
        try:
            identity = ProcessIdentity.from_json(json.loads(self._record.read_text()))
        except (OSError, ValueError, KeyError):
            return None
        return Process.adopt(identity)

    def _spawn(self) -> Process:
        path = self.spec.root / "containerd.log"
        fresh = os.O_TRUNC if path.exists() and path.stat().st_size > LOG_LIMIT else 0
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | fresh, 0o600)
        try:
            process = spawn([str(PROGRAM), "--config", str(self.spec.config)], output=output)
        finally:
            os.close(output)
        # Two cannot run: the second waits for the lock of the first one's database. A record that was not written,
        # for we were killed just here, leaves one that _answering finds in the way.
        write_json(self._record, process.identity.to_json())
        return process

    async def _answering(self, process: Process) -> None:
        cri = Cri(self.socket)
        try:
            async with asyncio.timeout(START_S):
                while True:
                    if process.exited():
                        raise HostError(f"containerd ended: {self._last_words()}", hint="see its log")
                    with contextlib.suppress(Unavailable):
                        await cri.call("Version", timeout_s=5)
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise HostError("containerd does not answer", hint=f"see {self.spec.root / 'containerd.log'}") from None
        finally:
            cri.close()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return (self.spec.root / "containerd.log").read_text(errors="replace")[-400:].strip()
        return ""

    async def _import_pause(self) -> None:
        cri = Cri(self.socket)
        try:
            if await cri.image(pause.NAME) is None:
                path = self.spec.root / "pause.tar"
                await asyncio.to_thread(path.write_bytes, pause.archive())
                await asyncio.to_thread(self._ctr, "images", "import", str(path))
            async with asyncio.timeout(START_S):
                while await cri.image(pause.NAME) is None:  # noqa: ASYNC110 (it is another process that gets there)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise HostError("containerd does not take the pods' image", hint="see its log") from None
        finally:
            cri.close()

    def _ctr(self, *arguments: str) -> None:
        command = [_CTR, "--address", str(self.socket), "--namespace", _NAMESPACE, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S)
        if done.returncode:
            raise HostError(f"ctr {' '.join(arguments)}: {done.stderr.strip()[:400]}", hint="see containerd's log")

    async def _keep_up(self) -> None:
        """Start it anew whenever it ends, after a pause that grows while it does not last."""
        pause_s = BACKOFF_S[0]
        while self._process is not None:
            began = asyncio.get_running_loop().time()
            await self._process.wait()
            self._process.release()
            if asyncio.get_running_loop().time() - began > BACKOFF_S[1]:
                pause_s = BACKOFF_S[0]
            log.warning("containerd ended; it is started again in %.1f s", pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_S[1])
            try:
                self._process = await asyncio.to_thread(self._spawn)
            except (OSError, AlcoveError) as error:
                log.error("containerd cannot be started: %s", error)

    async def _end(self, process: Process) -> None:
        process.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.signal(signal.SIGKILL)
            await process.wait()
        process.release()


def remove_bridge(name: str) -> None:
    """Remove the pods' bridge, and its rules, where no pod is on it. Blocking."""
    ports = Path(f"/sys/class/net/{name}/brif")
    if ports.is_dir() and not any(ports.iterdir()):
        subprocess.run(["/usr/sbin/ip", "link", "delete", name], capture_output=True, check=False)
    if not Path(f"/sys/class/net/{name}").exists():
        firewall.remove(name)


def may_raise_priority(status: Path = Path("/proc/self/status")) -> bool:
    """Tell whether we have CAP_SYS_RESOURCE."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> _SYS_RESOURCE & 1)
