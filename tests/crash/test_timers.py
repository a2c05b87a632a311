"""Timers over kill -9: timers and queue alone, killed again and again at a step of a run; their clock runs fast."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory

MINUTE = 60_000
TIMERS = 20
KILLS = 8
# How long a minute of the timers' clock takes: longer than a restart, so that what was not noted is due still.
REAL_MINUTE_S = 1.0


async def prepare(folder: Path) -> None:
    database = await Database.open(folder / "alcove.db")
    await TenantDirectory.open(database)
    await database.close()


def accepted_runs(folder: Path) -> dict[str, list[int]]:
    """Return the instants (ms) of each timer's accepted runs, repetitions included."""
    connection = sqlite3.connect(folder / "events.db")
    found: dict[str, list[int]] = {}
    for (payload,) in connection.execute("SELECT payload FROM events ORDER BY sequence"):
        event = json.loads(payload)
        instant = datetime.fromisoformat(event["time"])
        found.setdefault(event["resources"][0].rpartition("/")[2], []).append(int(instant.timestamp() * 1000))
    connection.close()
    return found


@pytest.mark.parametrize("step", ["before", "after"])
def test_no_kill_makes_a_timer_run_twice_or_never(tmp_path: Path, step: str) -> None:
    asyncio.run(prepare(tmp_path))
    began = time.time()
    chance = random.Random(7)
    caught_up: list[list[int]] = []
    for life in range(KILLS):
        # Some lives end while they make up for what was missed.
        last = chance.randint(1, 2 * TIMERS) if life else 2 * TIMERS
        options = [str(tmp_path), str(began), str(TIMERS), str(REAL_MINUTE_S), step, str(last)]
        argv = [sys.executable, "-m", "tests.crash.timers_driver", *options]
        ended = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60)
        assert ended.returncode == -signal.SIGKILL
        caught_up += [[int(word) for word in line.split()] for line in ended.stdout.splitlines()]
    assert len(caught_up) > 2
    found = accepted_runs(tmp_path)
    with sqlite3.connect(tmp_path / "alcove.db") as connection:
        noted = dict(connection.execute("SELECT name, handled_ms FROM timers"))
    connection.close()
    assert len(found) == len(noted) == TIMERS
    for name, instants in found.items():
        assert len(instants) == len(set(instants)), f"{name} ran twice at one instant"
        # Events carry whole seconds.
        assert noted[name] < max(instants) + 1000, f"{name} is noted for a run that was not accepted"
        for start, end in caught_up[1:]:
            # Of what was due when the server came up, the last run was accepted, before or then.
            assert any(start - MINUTE - 1000 < instant <= end for instant in instants), (name, start, end)
