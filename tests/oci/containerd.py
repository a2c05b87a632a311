"""A containerd of a test's own: its state below a folder, its images from one registry, its pods on a bridge of their
own.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.oci.registry import Registry

PROGRAM = Path("/usr/bin/containerd")
MIRRORED = ("registry.k8s.io", "gcr.io", "k8s.gcr.io", "registry.test")
_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "registry.k8s.io/pause:3.6"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{folder}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
{runtimes}"""


@dataclass
class Containerd:
    """A containerd that answers from ``start`` to ``stop``. ``folder`` is all its own."""

    folder: Path
    command: Sequence[str | Path]
    environment: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "containerd.sock"

    def start(self) -> None:
        log = self.folder / "containerd.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output, env=self.environment)
        deadline = time.monotonic() + 60
        try:
            while self.ctr("plugins", "ls", check=False).returncode:
                assert self.process.poll() is None, log.read_text(errors="replace")[-4000:]
                assert time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
                time.sleep(0.1)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["/usr/bin/ctr", "--address", str(self.socket), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120)


def _network(folder: Path, subnet: str, bridge: str) -> str:
    ranges = [[{"subnet": subnet}]]
    plugin = {
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        "ipMasq": True,
        "ipam": {"type": "host-local", "dataDir": str(folder / "ipam"), "ranges": ranges,
                 "routes": [{"dst": "0.0.0.0/0"}]},
    }  # fmt: skip
    mapping = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": bridge, "plugins": [plugin, mapping]})


def configure(
    folder: Path, registry: Registry, runtimes: str, *, subnet: str, bridge: str, template: str = _CONFIG
) -> Path:
    """Write everything that the containerd in ``folder`` reads; return its configuration's path."""
    for name in MIRRORED:
        hosts = folder / "certs.d" / name
        hosts.mkdir(parents=True, exist_ok=True)
        server = f'server = "http://{registry.host}"\n[host."http://{registry.host}"]\n'
        (hosts / "hosts.toml").write_text(server + '  capabilities = ["pull", "resolve"]\n  skip_verify = true\n')
    (folder / "net.d").mkdir(exist_ok=True)
    (folder / "net.d" / "10-test.conflist").write_text(_network(folder, subnet, bridge))
    config = folder / "config.toml"
    config.write_text(template.format(folder=folder, runtimes=runtimes))
    return config


@contextmanager
def containerd(
    folder: Path,
    registry: Registry,
    *,
    runtimes: str = "",
    subnet: str = "10.199.0.0/24",
    bridge: str = "cni-test0",
    environment: Mapping[str, str] | None = None,
    program: Path = PROGRAM,
    template: str = _CONFIG,
) -> Iterator[Containerd]:
    """Run a containerd; ``runtimes`` is TOML of the CRI plugin's, beside ``runc``, in the ``template``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = configure(folder, registry, runtimes, subnet=subnet, bridge=bridge, template=template)
    running = Containerd(folder, [program, "--config", config, "--log-level", "info"], environment)
    running.start()
    try:
        yield running
    finally:
        running.stop()
        subprocess.run(["/usr/sbin/ip", "link", "delete", bridge], capture_output=True)
