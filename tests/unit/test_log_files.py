"""Files that are appended to and kept open."""

from __future__ import annotations

import os
from pathlib import Path

from alcove.functions.log_files import LogFiles


def descriptors(folder: Path) -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(folder))
        except FileNotFoundError:
            continue
    return found


def test_what_is_written_is_there_and_few_stay_open(tmp_path: Path) -> None:
    files = LogFiles(most=3)
    for turn in range(3):
        for number in range(10):
            files.append(tmp_path / f"{number}", b"%d\n" % turn)
            assert descriptors(tmp_path) <= 3
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"0\n1\n2\n"}
    files.close()
    assert descriptors(tmp_path) == 0


def test_a_file_that_is_renamed_gets_no_more(tmp_path: Path) -> None:
    files = LogFiles()
    files.append(tmp_path / "log", b"old\n")
    files.forget(tmp_path / "log")
    (tmp_path / "log").rename(tmp_path / "old")
    files.append(tmp_path / "log", b"new\n")
    assert (tmp_path / "old").read_bytes() == b"old\n"
    assert (tmp_path / "log").read_bytes() == b"new\n"
    files.close()
