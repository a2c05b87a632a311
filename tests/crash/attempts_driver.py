"""What the test of retries kills: the poller of one mapping whose function always fails, once a failure was counted.

Arguments: the mapping's spec (JSON), its id, the folder with alcove.db, the file that gets a line for each call and one
for what is given up (the number of its calls), and how many failures this life outlives; then it dies. Exits with 0
when the item is given up.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tests.sources import TENANT, Answering

from alcove.sources.address import AddressRule
from alcove.sources.kinds import source_maker
from alcove.sources.outside import Outside
from alcove.sources.poller import Doubling, Parts, Poller, Work
from alcove.sources.source import Item
from alcove.sources.spec import SourceSpec
from alcove.store.database import Database


def tell(path: str, text: str) -> None:
    with open(path, "a") as output:
        output.write(f"{text}\n")


class Sink:
    def __init__(self, path: str) -> None:
        self.path = path
        self.told = asyncio.Event()

    async def submit(self, tenant: Any, function: str, event: bytes, **options: Any) -> str:
        tell(self.path, f"given up after {json.loads(event)['requestContext']['approximateInvokeCount']}")
        self.told.set()
        return ""


async def main(text: str, mapping: str, folder: str, path: str, outlives: str) -> None:
    spec, left = SourceSpec.from_json(text), int(outlives)
    database = await Database.open(Path(folder) / "alcove.db")
    functions, sink = Answering(), Sink(path)

    def answer(event: Any) -> tuple[bytes, bool]:
        tell(path, "called")
        return b"{}", True

    functions.answer = answer
    outside = Outside(database, AddressRule((ip_network("127.0.0.0/8"),)))
    source = source_maker(None, outside)(mapping, TENANT, spec)  # type: ignore[arg-type]
    again = source.again

    async def counted_again(items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        nonlocal left
        await again(items, delay_s, counted=counted)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    source.again = counted_again  # type: ignore[method-assign]
    parts = Parts(functions, functions, sink, Doubling(0.01, 0.02))  # type: ignore[arg-type]
    poller = Poller(Work(mapping, TENANT, "f", "", spec), source, parts, opening="Creating")
    poller.start()
    await sink.told.wait()
    await poller.stop()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
