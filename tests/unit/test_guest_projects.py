"""Project quotas: what the kernel is told, as its headers have it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from alcove.guest import kernel, projects, volumes
from alcove.guest.refused import Refused


def test_structures_are_the_kernels() -> None:
    # struct fsxattr has 28 bytes, which its ioctls carry in their numbers; struct if_dqblk has 72.
    assert projects._FSXATTR.size == 28
    for number, name in ((projects._FS_IOC_FSGETXATTR, 31), (projects._FS_IOC_FSSETXATTR, 32)):
        assert (number >> 16 & 0x3FFF, number >> 8 & 0xFF, number & 0xFF) == (28, ord("X"), name)
    assert projects._DQBLK.size == 72
    for command in (projects._GET_QUOTA, projects._SET_QUOTA):
        assert command & 0xFF == 2


def test_a_limit_is_beside_what_is_there() -> None:
    hard, soft, _, files, *_, valid = projects._DQBLK.unpack(projects.quota(8 << 20, used_bytes=12_288, used_files=3))
    assert (hard, soft, files, valid) == ((8 << 10) + 12, (8 << 10) + 12, 3 + 1024, 5)
    # Of less than a block there still is one: 0 would be none.
    assert projects._DQBLK.unpack(projects.quota(1, used_bytes=0, used_files=0))[0] == 1
    assert projects._DQBLK.unpack(projects.quota(1 << 30, used_bytes=0, used_files=0))[3] == 65_536


def test_a_kernel_without_quotas_has_the_disk_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
        done.append(data)
        if "prjquota" in data:
            raise OSError(errno.ESRCH, "no such format")

    monkeypatch.setattr(volumes, "_run", lambda argv: done.append(" ".join(argv)))
    monkeypatch.setattr(kernel, "mount", mount)
    volumes.mount_scratch("/dev/vdb", "/scratch")
    assert [one.partition("-O ")[2] or one for one in done] == [
        *("project -Q prjquota /dev/vdb", "noinit_itable,discard,prjquota"),
        *("^quota,^project /dev/vdb", "noinit_itable,discard"),
    ]


def test_a_limit_that_nobody_would_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(fd: int, number: int, value: bytes) -> bytes:
        if number == projects._FS_IOC_FSSETXATTR:
            raise OSError(errno.EOPNOTSUPP, "no projects")
        return bytes(28)

    monkeypatch.setattr(projects.fcntl, "ioctl", ioctl)
    with pytest.raises(Refused, match="disk limits"):
        projects.assign(str(tmp_path), 1)
