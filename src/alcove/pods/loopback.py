"""Where a pod's namespace has its loopback connected to: a listener of ours, whichever port is dialled.

What forwards a port (containerd's PortForward) enters the pod's network namespace and dials ``localhost``; the pod's
servers listen in its machine, on the machine's own loopback. A rule in the namespace hands each such connection to one
listener, which learns the port that was meant (``SO_ORIGINAL_DST``). Packets from outside never pass the rule: it is
for what is sent inside the namespace, and nothing else is to ``127.0.0.0/8``. Blocking: for threads.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from alcove.host.netns import open_namespace, within
from alcove.host.nftables import Nftables

_TABLE = "table ip alcove-ports"
_BACKLOG = 32
# include/uapi/linux/netfilter_ipv4.h
_SO_ORIGINAL_DST = 80
_ADDRESS = struct.Struct(">2xH4s8x")


def listen(path: str) -> socket.socket:
    """Return the listener, in the namespace at ``path``. Raises ``HostError``, ``InvalidRequest``, ``OSError``."""
    namespace = open_namespace(path)
    try:
        return within(namespace, _listen)
    finally:
        os.close(namespace)


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(_BACKLOG)
        with Nftables() as rules:
            rules.load(_rules(listener.getsockname()[1]))
    except BaseException:
        listener.close()
        raise
    return listener


def _rules(port: int) -> str:
    return f"""
{_TABLE}
delete {_TABLE}
{_TABLE} {{
  chain output {{
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 meta l4proto tcp redirect to :{port}
  }}
}}
"""


def undo() -> None:
    """Take the rule away, if it is there, in the calling thread's namespace."""
    with Nftables() as rules:
        rules.load(f"{_TABLE}\ndelete {_TABLE}", tolerant=True)


def keep_alive(connection: Any) -> None:
    """Find out whether an end that said no more is there still, or was closed: the kernel forgets the latter after a
    minute (``tcp_fin_timeout``).
    """
    for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 20), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def meant_port(connection: Any) -> int:
    """Return the port that the other end of a connection has dialled. Raises ``OSError``."""
    port, _ = _ADDRESS.unpack(connection.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, _ADDRESS.size))
    return int(port)
