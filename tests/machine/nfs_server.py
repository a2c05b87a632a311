"""An NFS server of a test's own: nfs-ganesha, version 4 alone, one export."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def nfs_server(folder: Path, address: str) -> Iterator[Path]:
    """Yield the folder that it exports as ``/data``."""
    exported = folder / "export"
    for path in (exported, folder / "recovery"):
        path.mkdir(parents=True)
    config, log = folder / "ganesha.conf", folder / "ganesha.log"
    config.write_text(_CONFIG.format(port=PORT, address=address, folder=folder))
    command = [PROGRAM, "-F", "-f", str(config), "-L", str(log), "-p", str(folder / "ganesha.pid"), "-N", "NIV_EVENT"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(address, server, log)
        yield exported
    finally:
        server.kill()
        server.wait()


def _await(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, PORT), timeout=1):
            return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
