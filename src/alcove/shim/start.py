"""``start``: find the shim of a container's pod, or become it. containerd waits for it, so little is imported here.

It prints the socket's address and nothing else. The serving process is a fork: it inherits the warm interpreter and the
listening socket, and none of containerd's pipes.
"""

from __future__ import annotations

import _socket
import fcntl
import os

from alcove.shim import address
from alcove.shim.quick_json import read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from alcove.shim.arguments import Arguments

SANDBOX_ID = "io.kubernetes.cri.sandbox-id"
_BACKLOG = 128


def start(arguments: Arguments) -> None:
    """Print the address of the pod's shim; in the child, serve. Raises ``OSError``, ``ValueError``."""
    bundle = os.getcwd()
    pod = pod_of(bundle, arguments.id)
    path = address.socket_path(arguments.namespace, pod, arguments.sockets)
    os.makedirs(arguments.sockets, mode=0o700, exist_ok=True)
    with open(f"{arguments.sockets}/.lock", "w") as lock:
        # Two containers of a pod that are started at once must not both become its shim.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if answers(path):
            _tell(bundle, path)
            return
        if pod != arguments.id:
            raise ValueError(f"the shim of pod {pod} is gone")
        listener = _listen(path)
        # After the address is known it may be asked for; after the fork somebody answers.
        if os.fork() == 0:
            _become(listener, path, pod, bundle, arguments)
        _tell(bundle, path)


def pod_of(bundle: str, id: str) -> str:
    """Return the id of the pod that a container belongs to: its own where nothing says otherwise."""
    with open(f"{bundle}/config.json", encoding="utf-8") as file:
        spec = read_object(file.read())
    pod = (spec.get("annotations") or {}).get(SANDBOX_ID)
    return str(pod or id)


def answers(path: str) -> bool:
    """Whether somebody listens at ``path``."""
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
    try:
        probe.connect(path)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _listen(path: str) -> _socket.socket:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(old)
    listener.listen(_BACKLOG)
    return listener


def _tell(bundle: str, path: str) -> None:
    """What containerd reads, now and after its own restart."""
    text = f"unix://{path}"
    temporary = f"{bundle}/.address"
    with open(temporary, "w") as file:
        file.write(text)
    os.rename(temporary, f"{bundle}/address")
    os.write(1, text.encode())


def _become(listener: _socket.socket, path: str, pod: str, bundle: str, arguments: Arguments) -> None:
    """Be the pod's shim; does not return."""
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        keep = listener.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 256)
        import socket

        from alcove.shim.serve import serve

        serve(
            socket.socket(fileno=listener.detach()),
            path,
            pod=pod,
            namespace=arguments.namespace,
            bundle=bundle,
            events=arguments.events,
            node=arguments.node,
        )
        status = 0
    finally:
        os._exit(status)
