"""Destinations over kill -9: each event has one record at its destination, whenever the process dies."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

EVENTS = 30
KILLS = 6


def rows(path: Path, query: str) -> list[str]:
    connection = sqlite3.connect(path)
    found = [str(row[0]) for row in connection.execute(query)]
    connection.close()
    return found


def live(folder: Path, step: str, left: int) -> int:
    options = [str(folder), str(EVENTS), step, str(left)]
    argv = [sys.executable, "-m", "tests.crash.destinations_driver", *options]
    return subprocess.run(argv, timeout=60).returncode


@pytest.mark.parametrize("step", ["invoked", "settling", "settled", "putting", "put"])
def test_no_kill_loses_or_doubles_a_record(tmp_path: Path, step: str) -> None:
    chance = random.Random(11)
    ends = [live(tmp_path, step, chance.randint(1, 8)) for _ in range(KILLS)]
    assert ends[0] == -signal.SIGKILL
    assert live(tmp_path, "none", 1) == 0
    records = [json.loads(body) for body in rows(tmp_path / "queues.db", "SELECT body FROM messages")]
    sources = [record["requestContext"]["requestId"] for record in records]
    assert sorted(sources) == sorted(f"to-queue-{number}" for number in range(EVENTS))
    assert {record["requestContext"]["condition"] for record in records} == {"Success"}
    done = rows(tmp_path / "events.db", "SELECT request_id FROM finished")
    # Each event, its record for the queue, or for the function.
    assert len(done) == len(set(done)) == 4 * EVENTS
    assert rows(tmp_path / "events.db", "SELECT request_id FROM events") == []
