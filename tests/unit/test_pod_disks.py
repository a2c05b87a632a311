"""Disks whose capacity is exact."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.pods.disks import BLOCK, DiskMaker, _usable

# Blocks in a group, as many as one block of bits counts.
GROUP = 32768


@pytest.mark.parametrize("capacity", [1 << 20, 5 << 20, 100_000_000, 1 << 30, 10 << 30])
def test_a_disk_holds_what_was_asked_and_takes_little(tmp_path: Path, capacity: int) -> None:
    maker = DiskMaker(tmp_path, 64 << 30)
    fds = [maker.make(capacity) for _ in range(2)]
    for fd in fds:
        status = os.fstat(fd)
        assert 0 <= capacity - _usable(fd, status.st_size // BLOCK) * BLOCK < BLOCK
        assert status.st_blocks * 512 < 1 << 20
        os.close(fd)
    maker.close()
    assert not list(tmp_path.iterdir())


# Where a group of blocks ends, at several sizes; what is asked for may be any number of bytes beside it.
@given(st.sampled_from([1, 2, 8]), st.integers(-8, 600), st.integers(0, BLOCK - 1))
@settings(max_examples=15)
@example(1, 8, 1)
@example(2, 500, 0)
def test_a_disk_never_holds_more_than_was_asked(groups: int, beyond: int, odd: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        maker = DiskMaker(Path(folder), 64 << 30)
        full = maker._try(groups * GROUP)
        wanted = _usable(full, groups * GROUP) + beyond
        fd = maker.make(wanted * BLOCK + odd)
        assert _usable(fd, os.fstat(fd).st_size // BLOCK) == wanted
        for one in (full, fd):
            os.close(one)
        maker.close()


@pytest.mark.parametrize("wrong", [0, -1, True, "1", None, 1 << 50])
def test_what_is_no_capacity_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(InvalidRequest):
        DiskMaker(tmp_path, 64 << 30).check(wrong)
