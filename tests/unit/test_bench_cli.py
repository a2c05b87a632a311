"""A benchmark that is ended early takes its machines with it."""

from __future__ import annotations

import signal
import subprocess
import sys

CHILD = """
import asyncio, os, signal, sys
from alcove.bench.cli import _run

async def measure():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print("freed", flush=True)

_run(measure())
"""


def test_sigterm_ends_a_measurement_in_order() -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=30)
    assert ended.stdout == "freed\n"
    assert ended.stderr == ""
    assert ended.returncode == 128 + signal.SIGTERM
