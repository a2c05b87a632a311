"""Relations over kill -9: a function goes with all of them and their timers, or stays with all."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("step", "left"), [("deleting", (1, 2, 1)), ("deleted", (0, 0, 0))])
def test_no_kill_leaves_a_relation_without_its_function(tmp_path: Path, step: str, left: tuple[int, ...]) -> None:
    argv = [sys.executable, "-m", "tests.crash.relations_driver", str(tmp_path), step]
    assert subprocess.run(argv, timeout=60).returncode == -signal.SIGKILL
    connection = sqlite3.connect(tmp_path / "alcove.db")
    found = tuple(
        connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        for table in ("functions", "relations", "timers")
    )
    connection.close()
    assert found == left
