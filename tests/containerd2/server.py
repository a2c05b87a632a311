"""A containerd 2.x of an operator's own, which `alcove setup containerd` has told about our tiers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.containerd2.build import build
from tests.oci import containerd
from tests.oci.registry import Registry

# Version 3 is what 2.x writes itself; what setup printed is a file of its own beside it.
_CONFIG = """\
version = 3
root = "{folder}/root"
state = "{folder}/state"
imports = ["{folder}/alcove/containerd.toml"]
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "registry.k8s.io/pause:3.6"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{folder}/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{folder}/net.d"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
{runtimes}"""


def set_up(folder: Path, version: int, run: Path) -> Path:
    """Have our command write its files for a configuration of this version; return that which containerd reads."""
    command = [sys.executable, "-c", "from alcove.cli import main; main()", "setup", "containerd"]
    options = ["--out", str(folder), "--config-version", str(version), "--run", str(run)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return folder / "containerd.toml"


@contextmanager
def containerd2(folder: Path, registry: Registry, run: Path) -> Iterator[containerd.Containerd]:
    """Run it for the server with this run folder; its shim for runc is found beside it."""
    folder.mkdir()
    set_up(folder / "alcove", 3, run)
    programs = build()
    with containerd.containerd(
        folder,
        registry,
        template=_CONFIG,
        program=programs / "containerd",
        environment={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        subnet="10.195.0.0/24",
        bridge="cni-test2",
    ) as running:
        yield running
