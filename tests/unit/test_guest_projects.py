"""Project quotas: what the kernel is told, as its headers have it."""

from __future__ import annotations

from alcove.guest import projects


def test_structures_are_the_kernels() -> None:
    # struct fsxattr has 28 bytes, which its ioctls carry in their numbers; struct if_dqblk has 72.
    assert projects._FSXATTR.size == 28
    for number, name in ((projects._FS_IOC_FSGETXATTR, 31), (projects._FS_IOC_FSSETXATTR, 32)):
        assert (number >> 16 & 0x3FFF, number >> 8 & 0xFF, number & 0xFF) == (28, ord("X"), name)
    assert projects._DQBLK.size == 72
    assert projects._SET_QUOTA & 0xFF == 2
