"""Trees of mounts that hang nowhere yet: copied from where a path is, restricted, and moved to where they are wanted.

A copy is a descriptor: it has no place in any namespace until it is moved, and is gone with the descriptor before that.
Sources: open_tree(2), mount_setattr(2) (Linux 5.12), mount_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import struct

from alcove.errors import HostError

# The same numbers on every architecture (asm-generic/unistd.h).
_SYS_OPEN_TREE, _SYS_MOUNT_SETATTR = 428, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE = 1
_RDONLY, _NOSUID, _NODEV = 1, 2, 4
MS_PRIVATE, MS_SLAVE = 1 << 18, 1 << 19
# struct mount_attr: what is set, what is cleared, propagation, user namespace.
_ATTRIBUTES = struct.Struct("=QQQQ")

_libc = ctypes.CDLL(None, use_errno=True)


def copy_tree(path: str) -> int:
    """Return the descriptor of a copy of the mounts at and below ``path``; links are followed. Raises ``OSError``."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    fd: int = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


def restrict(tree: int, *, read_only: bool, recursive: bool, follows: bool) -> None:
    """Take from the copy what its users may not have: programs' privileges, devices, and where ``read_only`` writes (of
    mounts below the first only where ``recursive``). ``follows``: what is mounted below the original later is there
    too. Raises ``HostError``.
    """
    everywhere = _NOSUID | _NODEV | (_RDONLY if read_only and recursive else 0)
    _set(tree, everywhere, MS_SLAVE if follows else MS_PRIVATE, _AT_EMPTY_PATH | _AT_RECURSIVE)
    if read_only:
        _set(tree, _RDONLY, 0, _AT_EMPTY_PATH)


def _set(tree: int, attributes: int, propagation: int, flags: int) -> None:
    wanted = _ATTRIBUTES.pack(attributes, 0, propagation, 0)
    if _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", flags, wanted, len(wanted)):
        raise HostError(f"a folder's mounts cannot be restricted: {os.strerror(ctypes.get_errno())}")
