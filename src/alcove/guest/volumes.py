"""What the host gives a pod to mount: images of layers, disks, shared folders, memory. Each is there once, by name."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from alcove.guest import kernel
from alcove.guest.places import DISKS, IMAGES, SHARES
from alcove.guest.refused import Refused, name_in

_MOST_LAYERS = 128
_RESCAN = "/sys/bus/pci/rescan"
# A partition's node may come a moment after the table was read.
_NODE_S = 2.0


def mount_image(request: dict[str, Any]) -> None:
    """Mount each partition of the disk, the lowest layer first, at ``IMAGES/<name>/<1...>``."""
    name, device, count = name_in(request, "name"), device_in(request), int(request["partitions"])
    if not 1 <= count <= _MOST_LAYERS:
        raise Refused("invalid", f"an image has 1 to {_MOST_LAYERS} layers, not {count}")
    folder = f"{IMAGES}/{name}"
    if os.path.isdir(folder):
        return
    kernel.reread_partitions(device)
    os.mkdir(folder)
    try:
        for number in range(1, count + 1):
            _await_node(f"{device}{number}")
            os.mkdir(f"{folder}/{number}")
            flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
            kernel.mount(f"{device}{number}", f"{folder}/{number}", "squashfs", flags)
    except BaseException:
        unmount_image(request)
        raise


def unmount_image(request: dict[str, Any]) -> None:
    """What is not there is no error; containers that still use it keep it."""
    folder = f"{IMAGES}/{name_in(request, 'name')}"
    with contextlib.suppress(FileNotFoundError):
        for number in sorted(os.listdir(folder)):
            with contextlib.suppress(OSError):
                kernel.unmount(f"{folder}/{number}", kernel.MNT_DETACH)
            os.rmdir(f"{folder}/{number}")
        os.rmdir(folder)


def layers(image: str) -> list[str]:
    """Return an image's layers, the highest first, as an overlay names them. Raises ``Refused``."""
    try:
        return sorted(os.listdir(f"{IMAGES}/{image}"), key=int, reverse=True)
    except FileNotFoundError:
        raise Refused("not_found", f"no image is mounted as {image!r}") from None


def mount_disk(request: dict[str, Any]) -> None:
    """An ext4 disk at ``DISKS/<name>``, for any user; a fresh one is made a file system first."""
    device, folder = device_in(request), _place(DISKS, request)
    if folder is None:
        return
    if request.get("fresh"):
        with open(device, "rb") as file:
            file.seek(1024 + 0x38)
            # The host may have made it already.
            made = file.read(2) == b"\x53\xef"
        if not made:
            _run(["/sbin/mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-m", "0", device])
    flags = kernel.MS_NODEV | kernel.MS_NOATIME
    _mount(device, folder, "ext4", flags, "noinit_itable,discard")
    with contextlib.suppress(OSError):
        os.rmdir(f"{folder}/lost+found")
    os.chmod(folder, 0o777)  # noqa: S103 - an emptyDir is everybody's of its pod


def mount_memory(request: dict[str, Any]) -> None:
    """An emptyDir of medium Memory, at ``DISKS/<name>``."""
    folder = _place(DISKS, request)
    if folder is not None:
        _mount("tmpfs", folder, "tmpfs", kernel.MS_NODEV, f"mode=777,size={int(request['bytes'])}")


def mount_share(request: dict[str, Any]) -> None:
    """A folder or file of the host's, at ``SHARES/<name>``: all of them come by one virtio-fs, which is looked for when
    the first is wanted.
    """
    path = f"{SHARES}/{name_in(request, 'name')}"
    if not os.path.ismount(SHARES):
        _mount_shares(str(request["tag"]))
    try:
        os.stat(path)
    except OSError as error:
        raise Refused("not_found", f"the host shows no {path}: {error.strerror}") from error


def _mount_shares(tag: str) -> None:
    """The device is not in the template that the machine was restored from: its bus is looked at again, which may find
    it a moment later.
    """
    with open(_RESCAN, "w") as bus:
        bus.write("1")
    deadline = time.monotonic() + _NODE_S
    while True:
        try:
            kernel.mount(tag, SHARES, "virtiofs", kernel.MS_NODEV | kernel.MS_NOSUID)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def device_in(request: dict[str, Any]) -> str:
    device = str(request["device"])
    if not device.isascii() or not device.isalnum() or not device.startswith("vd"):
        raise Refused("invalid", f"{device!r} is no disk")
    return f"/dev/{device}"


def _place(base: str, request: dict[str, Any]) -> str | None:
    """Make the mount's folder; None: it is mounted already."""
    folder = f"{base}/{name_in(request, 'name')}"
    try:
        os.mkdir(folder)
    except FileExistsError:
        return None
    return folder


def _mount(source: str, folder: str, kind: str, flags: int, data: str) -> None:
    try:
        kernel.mount(source, folder, kind, flags, data)
    except BaseException:
        os.rmdir(folder)
        raise


def _await_node(path: str) -> None:
    deadline = time.monotonic() + _NODE_S
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise Refused("not_found", f"the disk has no partition {os.path.basename(path)}")
        time.sleep(0.005)


def mount_scratch(device: str, folder: str) -> None:
    """What containers write goes there, counted by projects where the kernel can: one of the operator's own may not."""
    # The inode tables of a sparse file are zeros already; what is deleted is freed on the host.
    flags, options = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOATIME, "noinit_itable,discard"
    _run(["/sbin/tune2fs", "-O", "project", "-Q", "prjquota", device])
    try:
        kernel.mount(device, folder, "ext4", flags, f"{options},prjquota")
    except OSError:
        _run(["/sbin/tune2fs", "-O", "^quota,^project", device])
        kernel.mount(device, folder, "ext4", flags, options)


def _run(argv: list[str]) -> None:
    quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawn(argv[0], argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, file_actions=quiet)
    _, status = os.waitpid(pid, 0)
    if status:
        raise Refused("failed", f"{argv[0]} ended with status {os.waitstatus_to_exitcode(status)}")
