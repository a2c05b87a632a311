"""Metering over kill -9: killed again and again at a step of the meter, every answered call is in the sums once."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alcove.metering.meter import Meter
from alcove.store.metering import UsageQuery, UsageRow, list_usage

KILLS = 4
CALLERS = 4


async def sums(folder: Path) -> list[UsageRow]:
    meter = await Meter.open(folder)
    try:
        return await meter.database.read(lambda c: list_usage(c, UsageQuery(), ("", "", ""), 1_000_000))
    finally:
        await meter.close()


@pytest.mark.parametrize("step", ["before line", "after line", "before commit", "after commit", "before removal"])
def test_no_kill_makes_a_call_counted_twice_or_never(tmp_path: Path, step: str) -> None:
    chance = random.Random(step)
    begun: set[str] = set()
    answered: set[str] = set()
    for life in range(KILLS):
        count = chance.randint(20, 200) if "line" in step else chance.randint(1, 5)
        argv = [sys.executable, "-m", "tests.crash.metering_driver", str(tmp_path), str(life), step, str(count)]
        ended = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60)
        assert ended.returncode == -signal.SIGKILL
        for line in ended.stdout.splitlines():
            word, name = line.split()
            (begun if word == "begun" else answered).add(name)
    assert len(answered) > 2 * KILLS
    found = asyncio.run(sums(tmp_path))
    assert {row.calls for row in found} == {1}
    counted = {row.function for row in found}
    assert answered <= counted <= begun
    # Beyond those, at most what was under way at each kill.
    assert len(counted - answered) <= KILLS * CALLERS
