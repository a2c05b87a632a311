"""What the test of event sources kills: the poller of one mapping, until the step at which it dies.

Arguments: the mapping's spec (JSON), the folder with queues.db, the file that the function writes what it was handed to
(its event, a line each), the step (``called``: before the function does anything, ``answered``: when it has) and how
often that is passed before the end; how many items there are. Exits with 0 when the function has seen that many.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tests.sinks import FakeSink
from tests.unit.test_events import Functions

from alcove.functions.model import InvokeResult
from alcove.queues.service import QueueService
from alcove.sandbox.protocol import TenantId
from alcove.sources.address import AddressRule
from alcove.sources.kinds import source_maker
from alcove.sources.outside import Outside
from alcove.sources.poller import Doubling, Parts, Poller, Work
from alcove.sources.spec import SourceSpec
from alcove.store.database import Database

TENANT = TenantId("000000000001")


class Mortal(Functions):
    def __init__(self, path: str, step: str, left: int) -> None:
        super().__init__()
        self.path, self.step, self.left = path, step, left
        self.seen = 0

    def at(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    async def invoke(self, version: Any, event: bytes, **options: Any) -> InvokeResult:
        self.at("called")
        with open(self.path, "ab") as output:
            output.write(event + b"\n")
        result = await super().invoke(version, event, request_id="r")
        self.at("answered")
        return result


def count(path: str) -> int:
    """Return how many different items the function has seen."""
    found = set()
    for line in Path(path).read_bytes().splitlines():
        document = json.loads(line)
        for record in document.get("Records") or next(iter(document["rmqMessagesByQueue"].values())):
            found.add(record.get("body") or record.get("data") or record["fields"]["text"])
    return len(found)


async def main(text: str, folder: str, path: str, step: str, left: str, items: str) -> None:
    Path(path).touch()
    queues = await QueueService.open(Path(folder) / "queues.db", "r")
    database = await Database.open(Path(folder) / "alcove.db")
    spec = SourceSpec.from_json(text)
    functions = Mortal(path, step, int(left))
    make = source_maker(queues, Outside(database, AddressRule((ip_network("127.0.0.0/8"),))))
    parts = Parts(functions, functions, FakeSink(), Doubling(0.05, 0.1))  # type: ignore[arg-type]
    poller = Poller(Work("m", TENANT, "f", "", spec), make("m", TENANT, spec), parts, opening="Creating")
    poller.start()
    while count(path) < int(items):
        await asyncio.sleep(0.02)
    await poller.stop()
    await queues.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
