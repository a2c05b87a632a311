"""Mounts and loop devices: read-only squashfs images on folders, folders whose mounts reach a running container.

Everything here blocks: call it from a thread. A loop device is made with LO_FLAGS_AUTOCLEAR, so it
goes with its last mount and a crash leaves none behind. Sources: loop(4), mount(2), mount_namespaces(7).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

from alcove.errors import CapacityError, HostError

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_READ_ONLY, _LO_FLAGS_AUTOCLEAR = 1, 4
# struct loop_config: fd, block_size, struct loop_info64 (its lo_flags is at byte 52), reserved.
_CONFIG = struct.Struct("=II52xI176x64x")
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND = 0x1, 0x2, 0x4, 0x1000
MS_PRIVATE, MS_SHARED = 1 << 18, 1 << 20
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8
_TRIES = 100

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, kind: str | None, flags: int) -> None:
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode() if kind else None, ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount on {target}: {os.strerror(number)}")


def _attach_loop(image: int) -> int:
    """Return an open loop device that reads from ``image``."""
    config = _CONFIG.pack(image, 0, _LO_FLAGS_READ_ONLY | _LO_FLAGS_AUTOCLEAR)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            try:
                device = os.open(f"/dev/loop{number}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                time.sleep(0.005)  # its node is being made
                continue
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                return device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # another process was faster
                    raise
    finally:
        os.close(control)
    raise CapacityError("no loop device is free", hint="stop sandboxes, then try again")


def mount_squashfs(image: Path, target: Path) -> None:
    """Mount the image read-only, nosuid and nodev. Raises ``HostError``."""
    try:
        file = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        try:
            device = _attach_loop(file)
        finally:
            os.close(file)
        try:
            source = os.readlink(f"/proc/self/fd/{device}")
            _mount(source, target, "squashfs", MS_RDONLY | MS_NOSUID | MS_NODEV)
        finally:
            os.close(device)
    except OSError as error:
        raise HostError(
            f"{image.name} cannot be mounted: {error}", hint="check that loop and squashfs are there"
        ) from error


def bind(source: Path, target: Path) -> None:
    """Show ``source`` at ``target``, with the flags of the mount that it is in. Raises ``HostError``."""
    try:
        _mount(str(source), target, None, MS_BIND)
    except OSError as error:
        raise HostError(f"{source} cannot be shown at {target}: {error}") from error


def share(folder: Path) -> None:
    """Make the folder a mount of its own whose later mounts reach those who have it bound as a slave."""
    try:
        _mount(str(folder), folder, None, MS_BIND)
        _mount("none", folder, None, MS_PRIVATE)
        _mount("none", folder, None, MS_SHARED)
    except OSError as error:
        raise HostError(f"{folder} cannot be shared with a container: {error}") from error


def unmount(target: Path) -> None:
    """Unmount all that is stacked on ``target``; nothing there is no error."""
    for _ in range(_TRIES):
        if _libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW):
            number = ctypes.get_errno()
            if number in (errno.EINVAL, errno.ENOENT):
                return
            raise HostError(f"{target} cannot be unmounted: {os.strerror(number)}")


def mounts_under(folder: Path) -> list[Path]:
    """Return the mount points at and below ``folder``, the last mounted first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Spaces and the like are written in octal.
        point = Path(line.split(" ")[4].encode().decode("unicode_escape"))
        if point == folder or folder in point.parents:
            found.append(point)
    return found[::-1]


def unmount_under(folder: Path) -> None:
    """Unmount everything at and below ``folder``."""
    for point in mounts_under(folder.resolve()):
        unmount(point)


def unpack_squashfs(image: Path, folder: Path) -> None:
    """Copy the image's files into ``folder``. Raises ``HostError``."""
    program = shutil.which("unsquashfs") or "/usr/bin/unsquashfs"
    try:
        subprocess.run(
            [program, "-quiet", "-no-progress", "-no-xattrs", "-force", "-dest", str(folder), str(image)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.defpath},
            check=True,
        )
    except FileNotFoundError as error:
        raise HostError("unsquashfs is missing", hint="apt-get install squashfs-tools") from error
    except subprocess.CalledProcessError as error:
        raise HostError(f"the code cannot be copied: {error.stderr.decode(errors='replace')[-300:]}") from error
