"""NFS volumes. The guest's kernel is the client; a server that does not answer holds up who asked, and nobody else.

mount(2) waits for the server, as does all that is asked of what is mounted. So each mount is a child's, which gives up
by itself, and before a container is given a volume that is there a child looks whether its server still answers: crun,
for which everybody waits, then is not the one who finds out.
The kernel takes addresses, no names, and does not agree on a version with the server: the newest is tried first
(nfs(5)).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from alcove.guest import kernel
from alcove.guest.nfs_volume import Volume, volume_in
from alcove.guest.places import NFS
from alcove.guest.refused import Refused, name_in

TIMEOUT_S = 30
MOST = 256
_PORT = 2049
_OTHER_VERSION = {errno.EPROTONOSUPPORT, errno.EINVAL}
_RESOLVER = "/run/resolv.conf"
# By which servers tell clients apart, beside the host's name (RFC 8881, 2.4). Clones of one template, of pods that are
# called the same, would take each other's locks and files.
_IDENTIFIER, _MACHINE_ID = "/sys/fs/nfs/net/nfs_client/identifier", "/run/machine-id"
# What a child ends with beside the numbers of errors, which are smaller.
_NO_ADDRESS = 255


# mount(2): source, target, type, flags, data.
Mount = Callable[[str, str, str, int, str], None]


class Replies(Protocol):
    """The agent's channel, for answers that come later."""

    def answer(self, id: int, reply: dict[str, Any]) -> None: ...
    def refuse(self, id: int, code: str, message: str) -> None: ...


class NfsMounts:
    """Each at ``NFS/<name>``, once; who asks for one that is being mounted waits for the same."""

    def __init__(self, replies: Replies, mount: Mount = kernel.mount) -> None:
        self._replies = replies
        self._mount = mount
        self._mounted: set[str] = set()
        self._waiters: dict[str, list[int]] = {}
        # By the child's pid: the name, and what it is asked for.
        self._children: dict[int, tuple[str, Volume]] = {}

    def mount(self, id: int, request: dict[str, Any]) -> None:
        """Answer ``id`` when it is mounted and its server answers, or cannot be. Raises ``Refused``."""
        name, volume = name_in(request, "name"), volume_in(request)
        if name in self._waiters:
            self._waiters[name].append(id)
            return
        if len(self._mounted | self._waiters.keys()) >= MOST and name not in self._mounted:
            raise Refused("capacity", f"a pod has at most {MOST} NFS volumes")
        folder = f"{NFS}/{name}"
        work: Callable[[], int] = partial(look, folder)
        if name not in self._mounted:
            _name_client()
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
            work = partial(mount_volume, self._mount, volume, folder)
        self._waiters[name] = [id]
        self._children[_begin(work)] = name, volume

    def ended(self, pid: int, status: int) -> bool:
        """Whether the child was one of ours; who waits for it is answered."""
        name, volume = self._children.pop(pid, ("", None))
        if volume is None:
            return False
        code = os.waitstatus_to_exitcode(status)
        if not code:
            self._mounted.add(name)
        elif name not in self._mounted:
            with contextlib.suppress(OSError):
                os.rmdir(f"{NFS}/{name}")
        for id in self._waiters.pop(name):
            if not code:
                self._replies.answer(id, {})
            elif code == -signal.SIGALRM:
                self._replies.refuse(id, "timeout", f"{volume}: the server did not answer within {TIMEOUT_S} s")
            else:
                self._replies.refuse(id, "failed", f"{volume}: {_words(code)}")
        return True


def _begin(work: Callable[[], int]) -> int:
    """Return the pid of a child that ends with the number which ``work`` returns, or is killed after a while."""
    pid = os.fork()
    if pid == 0:
        number = errno.EIO
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(TIMEOUT_S)
            number = work()
        finally:
            os._exit(number if 0 <= number <= _NO_ADDRESS else errno.EIO)
    return pid


def look(folder: str) -> int:
    """Ask the server something that the kernel does not remember, and have it remember the rest for who comes next."""
    try:
        os.statvfs(folder)
        os.stat(folder)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def mount_volume(mount: Mount, volume: Volume, folder: str) -> int:
    """Mount with the first options that the server understands; return 0, or the last error's number."""
    try:
        address = _address(volume)
    except OSError:
        return _NO_ADDRESS
    number = errno.EINVAL
    for data in volume.attempts:
        try:
            source = str(volume._replace(server=address))
            mount(source, folder, "nfs", volume.flags, f"{data},{_way(address, data)}")
            return 0
        except OSError as error:
            number = error.errno or errno.EIO
            if number not in _OTHER_VERSION:
                break
    return number


def _way(address: str, data: str) -> str:
    """Where nobody can reach us, of version 4: what the server would call us for is not asked of it."""
    proto, nobody = ("tcp6", "::") if ":" in address else ("tcp", "0.0.0.0")
    return f"proto={proto},addr={address}" + ("" if "vers=3" in data else f",clientaddr={nobody}")


def _address(volume: Volume) -> str:
    """Find the server, by the pod's own resolver. Raises ``OSError``."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(volume.server))
    if volume.resolver:
        with open(_RESOLVER, "w") as file:
            file.write(volume.resolver)
    # As bytes: Python would load its tables of languages for a text.
    found = socket.getaddrinfo(volume.server.encode(), _PORT, type=socket.SOCK_STREAM)
    return str(found[0][4][0])


def _name_client() -> None:
    """Raises ``Refused`` where the kernel is no client."""
    with open(_MACHINE_ID) as file:
        name = file.read().strip()
    try:
        with open(_IDENTIFIER, "w") as file:
            file.write(name)
    except FileNotFoundError:
        raise Refused("unsupported", "the machine's kernel has no NFS client") from None


def _words(code: int) -> str:
    if code == _NO_ADDRESS:
        return "the server's name has no address"
    return os.strerror(code) if code > 0 else f"signal {-code}"
