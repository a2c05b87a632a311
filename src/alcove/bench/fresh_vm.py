"""``alcove bench fresh-vm``: what a new machine for every request costs, against a warm one and against a bare restore.

A whole server, a published version. ``warm``: its calls share a machine. ``restore``: each call gets a machine of its
own, and none is started ahead, so each waits for a restore of the version's snapshot. ``fresh``: machines are restored
ahead, as they are for whoever asks for ``alcove:fresh-vm``; the calls come one after the other, and with pauses.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

from alcove.bench.figures import Figures
from alcove.bench.gateway import EVENT, serving
from alcove.bench.startup import zip_of
from alcove.cli.client import FUNCTIONS, Client
from alcove.errors import NotFound

NAME = "bench-fresh"
SOURCE = "def handler(event, context):\n    return {'hello': event.get('name')}\n"
# How long a server needs to have the next machine ready, under emulation.
PAUSE_S = 0.5
WARM_UP = 3


def deploy(client: Client, *, fresh: bool) -> str:
    """Deploy and publish; return the version."""
    try:
        client.call("DELETE", f"{FUNCTIONS}/{NAME}")
    except NotFound:
        pass
    document = {
        "FunctionName": NAME,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Role": "arn:aws:iam::000000000000:role/bench",
        "MemorySize": 1769,
        "FreshVm": fresh,
        "Code": {"ZipFile": base64.b64encode(zip_of({"app.py": SOURCE})).decode()},
    }
    client.call("POST", FUNCTIONS, document)
    return str(client.call("POST", f"{FUNCTIONS}/{NAME}/versions", {})["Version"])


def _calls(client: Client, figures: Figures, mode: str, version: str, count: int, pause_s: float) -> None:
    path = f"{FUNCTIONS}/{NAME}/invocations?Qualifier={version}"
    for number in range(WARM_UP + count):
        began = time.perf_counter()
        client.request("POST", path, EVENT)
        if number >= WARM_UP:
            figures.add("vm", mode, "hello", (time.perf_counter() - began) * 1000)
        time.sleep(pause_s)


def measure(state: Path, *, calls: int, progress: Callable[[str], None]) -> Figures:
    figures = Figures()
    for ahead in (0, 4):
        with serving(state, progress, "--prewarm", str(ahead)) as client:
            progress(f"{calls} calls, {ahead} machines ahead at most")
            if ahead:
                _calls(client, figures, "warm", deploy(client, fresh=False), calls, 0)
                version = deploy(client, fresh=True)
                _calls(client, figures, "fresh, with pauses", version, calls, PAUSE_S)
                _calls(client, figures, "fresh, one after the other", version, calls, 0)
            else:
                _calls(client, figures, "restore", deploy(client, fresh=True), calls, PAUSE_S)
            client.call("DELETE", f"{FUNCTIONS}/{NAME}")
    return figures
