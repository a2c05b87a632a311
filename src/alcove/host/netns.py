"""Network namespaces that others made, and work inside them. Blocking: for threads."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from alcove.errors import HostError, InvalidRequest

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
# _IO(0xb7, 0x3), ioctl_ns(2).
_NS_GET_NSTYPE = 0xB703


def open_namespace(path: str) -> int:
    """Return a descriptor of the network namespace at ``path``. Raises ``InvalidRequest`` where there is none, and for
    the host's own.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequest(f"the network namespace {path} cannot be opened: {error.strerror}") from error
    try:
        if not _is_network(fd):
            raise InvalidRequest(f"{path} is no network namespace")
        if namespace_id(fd) in (_identity("/proc/self/ns/net"), _identity("/proc/1/ns/net")):
            raise InvalidRequest(
                "a pod in a machine of its own cannot have the host's network (hostNetwork)",
                hint="give it a network of its own, or choose the runtime handler runc",
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def namespace_id(fd: int) -> tuple[int, int]:
    """Return what tells this namespace from every other while it exists."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def within(namespace: int, work: Callable[[], T]) -> T:
    """Do ``work`` inside the namespace, in a thread of its own that ends with it."""

    def enter() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET):
            raise HostError(f"cannot enter a pod's network namespace: {os.strerror(ctypes.get_errno())}")
        return work()

    with ThreadPoolExecutor(1, thread_name_prefix="alcove-netns") as own:
        return own.submit(enter).result()


def _is_network(fd: int) -> bool:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
