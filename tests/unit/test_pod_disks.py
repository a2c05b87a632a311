"""Disks whose capacity is exact."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alcove.errors import InvalidRequest
from alcove.pods.disks import BLOCK, DiskMaker, _usable


@pytest.mark.parametrize("capacity", [1 << 20, 5 << 20, 100_000_000, 1 << 30, 10 << 30])
def test_a_disk_holds_what_was_asked_and_takes_little(tmp_path: Path, capacity: int) -> None:
    maker = DiskMaker(tmp_path, 64 << 30)
    fds = [maker.make(capacity) for _ in range(2)]
    for fd in fds:
        status = os.fstat(fd)
        assert 0 <= _usable(fd, status.st_size // BLOCK) * BLOCK - capacity < BLOCK
        assert status.st_blocks * 512 < 1 << 20
        os.close(fd)
    maker.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [0, -1, True, "1", None, 1 << 50])
def test_what_is_no_capacity_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(InvalidRequest):
        DiskMaker(tmp_path, 64 << 30).check(wrong)
