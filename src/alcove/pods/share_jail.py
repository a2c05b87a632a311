"""Two programs, run by an interpreter of their own (standard library only): the jail of a pod's virtiofsd, and what
puts a folder into it.

``serve ROOT GROUPS COMMAND...`` joins the cgroups, makes an empty tmpfs at ROOT in a mount namespace of its own,
forbids files that carry privileges, and becomes the command. ``insert PIDFD TREE NAME KIND`` moves a tree of mounts to
NAME in the namespace of the process, whose root that tmpfs has become. The host's own mounts never change, and what is
in the namespace goes with its last process.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 2, 4, 8, 1 << 14, 1 << 19
_SYS_MOVE_MOUNT, _AT_FDCWD, _MOVE_MOUNT_F_EMPTY_PATH = 429, -100, 4
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2

# Set-user-id and set-group-id.
_PRIVILEGED = 0o6000
# By machine: its audit number (linux/audit.h), and the calls with the index of the argument that is a file's mode.
_CALLS = {
    "x86_64": (
        0xC000003E,
        {2: 2, 85: 1, 90: 1, 91: 1, 133: 1, 257: 3, 259: 2, 268: 2, 452: 2},
    ),
    "aarch64": (0xC00000B7, {33: 2, 52: 1, 53: 2, 56: 3, 452: 2}),
}
# Its mode is in memory, where no filter can look at it.
_OPENAT2 = 437
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_FIRST_ARGUMENT = 16

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def privilege_filter(machine: str) -> bytes:
    """Return the program (BPF, seccomp(2)) that refuses to give a file a mode with privileges."""
    audit, calls = _CALLS[machine]
    code = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_JUMP_EQUAL, 0, 1, _OPENAT2), (_RETURN, 0, 0, _ENOSYS)]
    for number, argument in calls.items():
        code += [
            (_JUMP_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * argument),
            (_JUMP_SET, 0, 1, _PRIVILEGED),
            (_RETURN, 0, 0, _EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def _forbid_privileges() -> None:
    program = privilege_filter(platform.machine())
    kept = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described, 0, 0), "seccomp")


def serve(root: str, groups: str, *command: str) -> None:
    for file in groups.split():
        with open(file, "w") as group:
            group.write(str(os.getpid()))
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC), "unshare")
    # As a slave: what the host unmounts is not held here.
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "mount /")
    options = b"mode=755,size=1m,nr_inodes=1024"
    _check(_libc.mount(b"tmpfs", root.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options), root)
    os.umask(0)
    _forbid_privileges()
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def insert(process: str, tree: str, name: str, kind: str) -> None:
    _check(_libc.setns(int(process), _CLONE_NEWNS), "setns")
    path = f"/{name}"
    if kind == "folder":
        os.makedirs(path, exist_ok=True)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    result = _libc.syscall(_SYS_MOVE_MOUNT, int(tree), b"", _AT_FDCWD, path.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, path)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        insert(*sys.argv[2:])
