"""What containerd is told: its configuration, the pods' network, mirrors of registries, Kubernetes' RuntimeClasses.

Everything here is text made of a frozen ``ContainerdSpec``; ``containerd`` writes it and runs the program.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from alcove.instances import launcher, pause
from alcove.instances.tier import PodTier

# containerd's plugins that Alcove has no use for; some of them look for programs of their own at start.
_DISABLED = ("internal.v1.opt", *(f"snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")))
_CRI, _CRI_3 = 'plugins."io.containerd.grpc.v1.cri"', 'plugins."io.containerd.cri.v1.runtime"'
_VERSION = 2
# Another runtime with machines of its own: a handler where it is installed, by a package or by its own installer.
KATA = "containerd-shim-kata-v2"
_KATA_PATH = "/usr/local/bin:/usr/bin:/opt/kata/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdSpec:
    """A private containerd: ``root`` keeps images and containers, ``run`` is the server's own folder of sockets."""

    root: Path
    run: Path
    subnet: IPv4Network
    bridge: str
    plugins: Path = Path("/usr/lib/cni")
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Where we may not raise a process's priority with the kernel's memory killer, runc must not try (proc(5)).
    restrict_oom_score_adj: bool = False

    @property
    def state(self) -> Path:
        return self.run / "containerd"

    @property
    def tasks(self) -> Path:
        """Where containerd has the tasks that run, by namespace."""
        return self.state / "state" / "io.containerd.runtime.v2.task"

    @property
    def socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def networks(self) -> Path:
        return self.root / "net.d"

    @property
    def hosts(self) -> Path:
        return self.root / "hosts.d"


def render(spec: ContainerdSpec) -> str:
    """Return containerd's ``config.toml``, version 2, as 1.6 and 2.x read it."""
    return f"""\
version = 2
root = {_text(spec.root / "root")}
imports = []
state = {_text(spec.state / "state")}
disabled_plugins = [{", ".join(_text(f"io.containerd.{name}") for name in _DISABLED)}]

[grpc]
  address = {_text(spec.socket)}

[ttrpc]
  address = {_text(f"{spec.socket}.ttrpc")}

[{_CRI}]
  sandbox_image = {_text(pause.NAME)}
  restrict_oom_score_adj = {str(spec.restrict_oom_score_adj).lower()}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = true

  [{_CRI}.cni]
    bin_dir = {_text(spec.plugins)}
    conf_dir = {_text(spec.networks)}

  [{_CRI}.registry]
    config_path = {_text(spec.hosts)}

  [{_CRI}.containerd]
    default_runtime_name = "runc"
{runtimes(spec.root)}"""


def runtimes(folder: Path, plugin: str = _CRI) -> str:
    """Return the runtimes' part, which someone's own containerd gets too. Our programs lie in ``folder``.

    ``plugin`` is the CRI plugin's table: it has another name in configurations of version 3.
    """
    base = f"{plugin}.containerd.runtimes"
    kata = _kata(base)
    # By its path: runtime_path, meant for this, is read by 1.6 and then forgotten for sandboxes.
    return f"""
    [{base}.runc]
      runtime_type = "io.containerd.runc.v2"

    [{base}.runsc]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["dev.gvisor.*"]
      [{base}.runsc.options]
        BinaryName = {_text(folder / launcher.RUNSC)}

    [{base}.alcove]
      runtime_type = {_text(folder / launcher.SHIM)}
      pod_annotations = ["io.alcove.*"]
      container_annotations = ["io.alcove.*"]
{kata}"""


def fragment(folder: Path, version: int) -> str:
    """Return what someone's own ``config.toml`` of this version gets."""
    head = f"# Put this into /etc/containerd/config.toml (of version {version}), then restart containerd.\n"
    plugin = _CRI if version == _VERSION else _CRI_3
    return f"{head}version = {version}\n{runtimes(folder, plugin)}"


def kata_program() -> str | None:
    """Return the path of Kata's shim, if it is installed."""
    return shutil.which(KATA, path=_KATA_PATH)


def _kata(base: str) -> str:
    program = kata_program()
    if program is None:
        return ""
    return f"""
    [{base}.kata]
      runtime_type = {_text(program)}
      privileged_without_host_devices = true
      pod_annotations = ["io.katacontainers.*"]
"""


def network(spec: ContainerdSpec) -> str:
    """Return the pods' network: a bridge of this instance's own, ports of the host by ``portmap``."""
    addresses = {
        "type": "host-local",
        "dataDir": str(spec.root / "addresses"),
        "ranges": [[{"subnet": str(spec.subnet)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": spec.bridge, "isGateway": True, "ipMasq": False, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": spec.bridge, "plugins": [bridge, ports]}, indent=1)


def hosts(registry: str, mirrors: tuple[str, ...]) -> str:
    """Return the ``hosts.toml`` of a registry: its mirrors in order, then itself."""
    lines = [] if registry == "_default" else [f"server = {_text(f'https://{registry}')}"]
    for mirror in mirrors:
        lines += [f"[host.{_text(mirror)}]", '  capabilities = ["pull", "resolve"]']
    return "\n".join(lines) + "\n"


def runtime_classes() -> str:
    """Return the manifests that let Kubernetes' pods name a tier by ``runtimeClassName``."""
    one = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: {0}\nhandler: {0}\n"
    absent = {PodTier.PROCESS} if kata_program() else {PodTier.PROCESS, PodTier.KATA}
    return "---\n".join(one.format(tier.handler) for tier in PodTier if tier not in absent)


def _text(value: object) -> str:
    """JSON's strings are TOML's basic strings, for all but lone surrogates, which no path of ours has."""
    return json.dumps(str(value), ensure_ascii=True)
