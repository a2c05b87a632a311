"""Buckets over kill -9: what was answered is there, what is there is whole, nothing else is left; each change is told
of once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from tests.crash.buckets_driver import TENANT, everyone

from alcove.buckets.listing import Listing
from alcove.buckets.model import Limits
from alcove.buckets.outbox import Outbox
from alcove.buckets.service import BucketService
from alcove.events.queue import EventQueue

KILLS = 8


def live(folder: Path, seed: int, chance: random.Random) -> list[tuple[str, str]]:
    """Run the driver until it has answered so many changes, kill it; return what it answered."""
    argv = [sys.executable, "-m", "tests.crash.buckets_driver", str(folder), str(seed)]
    answered: list[tuple[str, str]] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = chance.randint(5, 60)
        guard = threading.Timer(60, process.kill)
        guard.start()
        for line in process.stdout:
            name, _, digest = line.strip().partition(" ")
            if name == "ready":
                continue
            answered.append((name, digest))
            if len(answered) == last:
                process.kill()
        guard.cancel()
    assert len(answered) >= last
    return answered


async def contents(folder: Path) -> dict[str, str]:
    """Open the store as a server that starts does; return the SHA-256 of each object, and hand in what waits."""
    store = await BucketService.open(folder, Limits(1 << 40, 1 << 20), "r")
    queue = await EventQueue.open(folder / "events.db")
    found = {}
    for one in (await store.page(TENANT, "bucket", Listing())).objects:
        async with store.open_object(TENANT, "bucket", one.key) as opened:
            digest = hashlib.sha256()
            async for data in opened.read(0, one.size):
                digest.update(data)
        found[one.key] = digest.hexdigest()
    assert not await Outbox(store.database, queue, everyone).drain()
    await queue.close()
    await store.close()
    return found


def test_no_kill_leaves_half_an_object_or_tells_twice(tmp_path: Path) -> None:
    chance = random.Random(11)
    known: dict[str, str] = {}
    for life in range(KILLS):
        answered = live(tmp_path, life, chance)
        known.update(answered)
        found = asyncio.run(contents(tmp_path))
        touched = {name for name, _ in answered}
        # Of each worker one change may have been made and not answered.
        unlike = {name for name in known | found if found.get(name, "-") != known.get(name, "-")}
        assert len({name.partition("/")[0] for name in unlike}) == len(unlike), (unlike, touched)
        known = {**dict.fromkeys(known, "-"), **found}
        check_files(tmp_path)
    check_events(tmp_path)


def check_files(folder: Path) -> None:
    """Each file has a row and each row a file; what is counted is what there is."""
    with sqlite3.connect(folder / "buckets.db") as connection:
        rows = dict(connection.execute("SELECT blob, size FROM segments UNION ALL SELECT blob, size FROM parts"))
        stored = connection.execute("SELECT bytes, objects FROM stored").fetchone()
        counts = [connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("objects", "parts")]
        assert connection.execute("SELECT COUNT(*) FROM outbox").fetchone() == (0,)
    connection.close()
    files = {path.name: path.stat().st_size for path in (folder / "buckets").rglob("*") if path.is_file()}
    assert files == rows
    assert stored == (sum(rows.values()), sum(counts))


def check_events(folder: Path) -> None:
    """The events of each key are the story of its changes, without a gap: as many as the sequencer counted."""
    with sqlite3.connect(folder / "events.db") as connection:
        payloads = [json.loads(row[0]) for row in connection.execute("SELECT payload FROM events")]
    connection.close()
    with sqlite3.connect(folder / "buckets.db") as connection:
        (changes,) = connection.execute("SELECT value FROM sequencer").fetchone()
        last = dict(connection.execute("SELECT key, id FROM objects"))
    connection.close()
    told = Counter(int(event["Records"][0]["s3"]["object"]["sequencer"], 16) for event in payloads)
    assert sorted(told) == list(range(1, changes + 1))
    assert set(told.values()) == {1}
    assert set(last.values()) <= set(told)
