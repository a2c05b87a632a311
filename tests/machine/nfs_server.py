"""An NFS server of a test's own: nfs-ganesha, version 4 alone, one export."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAM = "/usr/bin/ganesha.nfsd"
PORT = 20490
_START_S = 20.0
_CONFIG = """
NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Bind_addr = {address}; Enable_NLM = false; Enable_RQUOTA = false;
  Enable_UDP = None; }}
NFSV4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = "{folder}/recovery"; Only_Numeric_Owners = true; }}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{ Export_Id = 1; Path = "{folder}/export"; Pseudo = "/data"; Access_Type = RW; Squash = None; SecType = sys;
  Protocols = 4; FSAL {{ Name = VFS; }} }}
"""


class NfsServer:
    """``exported`` is the folder that it exports as ``/data``."""

    def __init__(self, process: subprocess.Popen[bytes], exported: Path) -> None:
        self.exported = exported
        self._process = process

    def stall(self) -> None:
        """Answer nobody from now on."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def nfs_server(folder: Path, address: str, *, port: int = PORT, namespace: str = "") -> Iterator[NfsServer]:
    """Run it in an empty folder, in the network namespace of this name if there is one."""
    exported = folder / "export"
    for path in (exported, folder / "recovery"):
        path.mkdir(parents=True)
    config, log = folder / "ganesha.conf", folder / "ganesha.log"
    config.write_text(_CONFIG.format(port=port, address=address, folder=folder))
    command = [PROGRAM, "-F", "-f", str(config), "-L", str(log), "-p", str(folder / "ganesha.pid"), "-N", "NIV_EVENT"]
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    quiet = subprocess.DEVNULL
    server = subprocess.Popen([*inside, *command], stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        _await(address, port, server, log)
        yield NfsServer(server, exported)
    finally:
        server.kill()
        server.wait()


def _await(address: str, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
