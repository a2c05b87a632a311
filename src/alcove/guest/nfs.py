"""NFS volumes. The guest's kernel is the client; a server that does not answer holds up who asked, and nobody else.

mount(2) waits for the server, so each mount is a child's, which gives up by itself. The kernel takes addresses, no
names, and does not agree on a version with the server: the newest is tried first (nfs(5)).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import signal
from collections.abc import Callable
from typing import Any, Protocol

from alcove.guest import kernel
from alcove.guest.places import NFS
from alcove.guest.refused import Refused, name_in

TIMEOUT_S = 30
_VERSIONS = ("vers=4.2", "vers=4.1", "vers=4.0", "vers=3,nolock")
_OTHER_VERSION = {errno.EPROTONOSUPPORT, errno.EINVAL}
_OPTION = re.compile(r"[a-z0-9_]{1,32}(=[A-Za-z0-9_.-]{1,64})?")
# What says where to, what is ours, or what the guest has nothing for.
_NOT_THEIRS = frozenset(
    ("addr", "clientaddr", "mountaddr", "mounthost", "fsc", "context", "sec", "bg", "fg", "ro", "rw")
)
_MOST_OPTIONS = 32
_LONGEST_PATH = 1024


# mount(2): source, target, type, flags, data.
Mount = Callable[[str, str, str, int, str], None]


class Replies(Protocol):
    """The agent's channel, for answers that come later."""

    def answer(self, id: int, reply: dict[str, Any]) -> None: ...
    def refuse(self, id: int, code: str, message: str) -> None: ...


class NfsMounts:
    """Each at ``NFS/<name>``, once; who asks for one that is being mounted waits for the same."""

    def __init__(self, replies: Replies, mount: Mount | None = None) -> None:
        self._replies = replies
        self._mount = mount
        self._waiters: dict[str, list[int]] = {}
        self._children: dict[int, str] = {}

    def mount(self, id: int, request: dict[str, Any]) -> None:
        """Answer ``id`` when it is mounted, or cannot be. Raises ``Refused``."""
        name = name_in(request, "name")
        server, path, attempts = _server(request), _path(request), options(request)
        if name in self._waiters:
            self._waiters[name].append(id)
            return
        folder = f"{NFS}/{name}"
        try:
            os.mkdir(folder)
        except FileExistsError:
            self._replies.answer(id, {})
            return
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | (kernel.MS_RDONLY if request.get("read_only") else 0)
        self._waiters[name] = [id]
        self._children[self._begin(f"{server}:{path}", folder, flags, attempts)] = name

    def _begin(self, source: str, folder: str, flags: int, attempts: list[str]) -> int:
        pid = os.fork()
        if pid == 0:
            number = errno.EIO
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(TIMEOUT_S)
                number = try_each(self._mount or kernel.mount, source, folder, flags, attempts)
            finally:
                os._exit(number)
        return pid

    def ended(self, pid: int, status: int) -> bool:
        """Whether the child was one of ours; who waits for it is answered."""
        name = self._children.pop(pid, None)
        if name is None:
            return False
        code = os.waitstatus_to_exitcode(status)
        if code:
            with contextlib.suppress(OSError):
                os.rmdir(f"{NFS}/{name}")
        for id in self._waiters.pop(name):
            if not code:
                self._replies.answer(id, {})
            elif code == -signal.SIGALRM:
                self._replies.refuse(id, "timeout", f"the NFS server did not answer within {TIMEOUT_S} s")
            else:
                words = os.strerror(code) if code > 0 else f"signal {-code}"
                self._replies.refuse(id, "failed", f"the NFS volume cannot be mounted: {words}")
        return True


def try_each(mount: Mount, source: str, folder: str, flags: int, attempts: list[str]) -> int:
    """Mount with the first options that the server understands; return 0, or the last error's number."""
    number = errno.EINVAL
    for data in attempts:
        try:
            mount_nfs(mount, source, folder, flags, data)
            return 0
        except OSError as error:
            number = error.errno or errno.EIO
            if number not in _OTHER_VERSION:
                break
    return number


def mount_nfs(mount: Mount, source: str, folder: str, flags: int, data: str) -> None:
    server = source.rpartition(":/")[0].strip("[]")
    proto = "tcp6" if ":" in server else "tcp"
    nobody = "::" if ":" in server else "0.0.0.0"
    where = f"addr={server}" + ("" if "vers=3" in data else f",clientaddr={nobody}")
    mount(source, folder, "nfs", flags, f"{data},{where}" + ("" if "proto=" in data else f",proto={proto}"))


def options(request: dict[str, Any]) -> list[str]:
    """Return the options of each attempt. Raises ``Refused``."""
    asked = request.get("options") or []
    if not isinstance(asked, list) or len(asked) > _MOST_OPTIONS:
        raise Refused("invalid", f"options: a list of at most {_MOST_OPTIONS} is wanted")
    kept = []
    for option in asked:
        if not isinstance(option, str) or not _OPTION.fullmatch(option) or option.partition("=")[0] in _NOT_THEIRS:
            raise Refused("invalid", f"the NFS option {option!r:.80} is not accepted")
        kept.append(option.replace("nfsvers=", "vers="))
    if any(option.startswith("vers=") for option in kept):
        return [",".join(kept)]
    return [",".join((version, *kept)) for version in _VERSIONS]


def _server(request: dict[str, Any]) -> str:
    try:
        address = ipaddress.ip_address(str(request["server"]))
    except ValueError as error:
        raise Refused("invalid", f"server: {error}") from error
    return f"[{address}]" if address.version == 6 else str(address)


def _path(request: dict[str, Any]) -> str:
    path = str(request["path"])
    if not path.startswith("/") or len(path) > _LONGEST_PATH or "\0" in path:
        raise Refused("invalid", f"path: {path!r:.80} is no absolute path")
    return path
