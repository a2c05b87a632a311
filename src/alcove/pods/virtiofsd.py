"""A pod's virtiofsd: shows a guest the folders of the host that its pod may see, and nothing else.

It runs in the pod's cgroup, whose end is its own; in namespaces of its own, in which there is nothing but an empty
tmpfs; with the capabilities of a file server and none to make devices or programs with privileges. Folders are put
into that tmpfs while it runs. It outlives the daemon: what a later one needs is the identity of the process that
serves.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from alcove.errors import HostError
from alcove.host.cgroup import Cgroup
from alcove.host.process import Process, ProcessIdentity, spawn
from alcove.vmm.qmp import listen

# Debian 12 has it in qemu-system-common.
PROGRAM = "/usr/lib/qemu/virtiofsd"
_JAIL = str(Path(__file__).with_name("share_jail.py"))
# What virtiofsd keeps by itself, less devices, capabilities of files, and set-group-id on what is not ours.
_CAPABILITIES = "-mknod:-setfcap:-fsetid"
_OPTIONS = f"sandbox=namespace,cache=auto,announce_submounts,no_xattr,log_level=err,modcaps={_CAPABILITIES}"
_INSERT_S = 20.0


def start(folder: Path, cgroup: Cgroup) -> tuple[Process, int]:
    """Start it; return it and the descriptor of a socket that is connected to it, for the VMM. It waits for that one
    to speak. Raises ``HostError``.
    """
    if not Path(PROGRAM).exists():
        raise HostError(f"{PROGRAM} is not installed", hint="apt-get install qemu-system-common")
    root, path = folder / "shares", folder / "shares.sock"
    root.mkdir(exist_ok=True)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with listen(path) as door:
            client.connect(str(path))
            path.unlink()
            groups = " ".join(map(str, cgroup.procs_files()))
            options = f"{_OPTIONS},source={root.resolve()}"
            command = [PROGRAM, f"--fd={door.fileno()}", "-o", options]
            argv = [sys.executable, "-I", "-S", _JAIL, "serve", str(root.resolve()), groups, *command]
            return spawn(argv, pass_fds=(door.fileno(),)), client.detach()
    finally:
        client.close()


def serving(process: Process) -> ProcessIdentity:
    """Return the process inside the sandbox, once the VMM has spoken with it. Raises ``HostError``."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        child = Process(int(children[0]))
    except (OSError, IndexError) as error:
        raise HostError("the pod's virtiofsd has ended", hint="see the service's log") from error
    try:
        return child.identity
    finally:
        child.release()


def insert(server: ProcessIdentity, tree: int, name: str, *, folder: bool) -> None:
    """Show the tree of mounts (``host.trees``) as ``name``; one that is there already is covered. Raises
    ``HostError``.
    """
    process = Process.adopt(server)
    if process is None:
        raise HostError("the pod's virtiofsd has ended")
    kind = "folder" if folder else "file"
    argv = [sys.executable, "-I", "-S", _JAIL, "insert", str(process.fd), str(tree), name, kind]
    try:
        done = subprocess.run(
            argv, pass_fds=(process.fd, tree), capture_output=True, text=True, stdin=subprocess.DEVNULL, env={},
            timeout=_INSERT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise HostError("a folder cannot be shown to the pod: its file system does not answer") from error
    finally:
        process.release()
    if done.returncode:
        raise HostError(f"a folder cannot be shown to the pod: {done.stderr.strip()[-300:]}")


def is_folder(tree: int) -> bool | None:
    """Whether the tree is a folder, or a file; None: neither, which cannot be shared."""
    mode = os.fstat(tree).st_mode
    return True if mode & 0o170000 == 0o040000 else False if mode & 0o170000 == 0o100000 else None
