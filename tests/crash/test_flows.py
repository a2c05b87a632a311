"""Executions over kill -9: each that was accepted ends as if nothing had been, whenever the process dies."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXECUTIONS = 8
KILLS = 3
# first, three items, left and right
CALLS = 6


def live(folder: Path, step: str, left: int) -> int:
    argv = [sys.executable, "-m", "tests.crash.flows_driver", str(folder), str(EXECUTIONS), step, str(left)]
    return subprocess.run(argv, timeout=60).returncode


def rows(folder: Path, query: str) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(folder / "flows.db")
    found = [tuple(map(str, row)) for row in connection.execute(query)]
    connection.close()
    return found


@pytest.mark.parametrize("step", ["calling", "called", "writing", "written", "ending", "ended"])
def test_no_kill_loses_an_execution(tmp_path: Path, step: str) -> None:
    chance = random.Random(18)
    most = EXECUTIONS if step in ("ending", "ended") else 4 * EXECUTIONS
    kills = [live(tmp_path, step, chance.randint(1, most)) for _ in range(KILLS)]
    assert kills[0] == -signal.SIGKILL
    assert live(tmp_path, "none", 1) == 0
    ended = rows(tmp_path, "SELECT name, status, output FROM executions ORDER BY name")
    expected = [f"e{number}" for number in range(EXECUTIONS)]
    assert [(name, status) for name, status, _ in ended] == [(name, "Succeed") for name in expected]
    for name, _, output in ended:
        assert json.loads(output) == {"id": name, "results": [{"id": f"{name}{part}"} for part in "abc"]}
    assert rows(tmp_path, "SELECT * FROM checkpoints") == []
    # A history tells each state once, in whole numbers without a gap.
    for _, events, numbers in rows(
        tmp_path,
        "SELECT e.id, e.events, COUNT(*) FROM executions e JOIN execution_events v ON v.execution_id = e.id GROUP BY 1",
    ):
        assert events == numbers
    exits = rows(tmp_path, "SELECT execution_id, state FROM execution_events WHERE type LIKE '%Exited'")
    once = Counter(row for row in exits if row[1] in ("first", "rest", "each", "both", "left", "right"))
    assert set(once.values()) == {1}
    # Each function was called, and again only where a kill cut it short: what was written is not done again.
    calls = Counter((tmp_path / "calls").read_text().splitlines())
    assert len(calls) == CALLS * EXECUTIONS
    assert sum(calls.values()) - len(calls) <= kills.count(-signal.SIGKILL) * EXECUTIONS * 3
