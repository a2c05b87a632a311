"""``alcove port-forward`` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-c", "from alcove.cli import main; main()")
Forwarding = tuple["subprocess.Popen[str]", list[int]]


@contextmanager
def forwarding(run: Path, name: str, *ports: str) -> Iterator[Forwarding]:
    """``alcove port-forward`` while it lasts."""
    environment = {**os.environ, "ALCOVE_RUN": str(run)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, "port-forward", name, *ports], env=environment, text=True, **pipes) as running:
        assert running.stdout is not None
        try:
            lines = [running.stdout.readline() for _ in ports]
            assert all(lines), running.communicate()[1]
            yield running, [int(line.split()[0].rpartition(":")[2]) for line in lines]
        finally:
            running.terminate()
