"""The control plane over kill -9, at every place of a function's life: a change is there whole or not at all, one that
was answered is there, each version has its code, and nothing else is kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.crash.control_driver import STATE, control_state
from tests.plane import Recorder

from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.store.code import code_in_use
from alcove.store.database import Database


def told(folder: Path) -> list[object]:
    return [json.loads(line) for line in (folder / "told").read_text().splitlines()]


async def check_code(folder: Path) -> None:
    """What is on the disk after the next start is what versions and layers have."""
    database = await Database.open(folder / "alcove.db")
    try:
        store = CodeStore(folder / "code")
        await FunctionService(database, store, Recorder()).recover()
        packages, images = await database.read(code_in_use)
        assert {path.name for path in store.folder.iterdir() if path.is_file()} == {f"{one}.squashfs" for one in images}
        assert {path.name for path in (store.folder / "packages").iterdir()} == {f"{one}.zip" for one in packages}
        store.close()
    finally:
        await database.close()


async def test_no_kill_leaves_half_a_change_or_loses_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tests.crash.control_driver", str(tmp_path)], check=True, timeout=540)
    lives = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    whole = told(lives[-1])
    nothing: dict[str, object] = {name: [] for name in STATE}
    states = [nothing, *whole, nothing]
    assert len(whole) == 11
    assert len(lives) > 60
    for life in lives[:-1]:
        answered = told(life)
        assert answered == whole[: len(answered)]
        assert control_state(life) in states[len(answered) : len(answered) + 2]
        await check_code(life)
