"""What the test of destinations kills: events, their delivery and queues, until the step at which they die.

Arguments: folder, number of events, the step (``invoked``: a function has answered; ``settling``, ``settled``: its
event is removed; ``putting``, ``put``: a queue takes the record) and how often it is passed before the end. Exits with
0 where everything was delivered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.unit.test_events import FAST, TENANT, Functions

from alcove.events.delivery import Delivery
from alcove.events.queue import EventQueue
from alcove.events.target import Destinations
from alcove.functions.model import InvokeResult
from alcove.queues.destination import QueueSink
from alcove.queues.service import QueueService
from alcove.store.invoke_configs import InvokeConfigRow

QUEUE = "arn:aws:sqs:r:t:records"
NEXT = "arn:aws:lambda:r:t:function:next"


class Death:
    def __init__(self, step: str, left: int) -> None:
        self._step, self._left = step, left

    def at(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Configs:
    async def find(self, function_id: str, qualifier: str) -> InvokeConfigRow | None:
        target = {"id-to-queue": QUEUE, "id-to-function": NEXT}.get(function_id, "")
        return InvokeConfigRow(function_id, qualifier, 0, None, target, target, 0)


class Mortal(Functions):
    death: Death

    async def invoke(self, version: Any, event: bytes, **options: Any) -> InvokeResult:
        result = await super().invoke(version, event, **options)
        self.death.at("invoked")
        return result


class MortalSink(QueueSink):
    death: Death

    async def put(self, *arguments: Any, **options: Any) -> None:
        self.death.at("putting")
        await super().put(*arguments, **options)
        self.death.at("put")


class MortalQueue(EventQueue):
    death: Death

    async def finish(self, *arguments: Any) -> None:
        self.death.at("settling")
        await super().finish(*arguments)
        self.death.at("settled")


async def main(folder: str, events: str, step: str, left: str) -> None:
    Mortal.death = MortalSink.death = MortalQueue.death = Death(step, int(left))
    queues = await QueueService.open(Path(folder) / "queues.db", "r")
    await queues.directory.create(TENANT, "records", {})
    queue = await MortalQueue.open(Path(folder) / "events.db")
    for function in ("to-queue", "to-function"):
        for number in range(int(events)):
            # As a timer does: an id is accepted once.
            event_id = f"{function}-{number}"
            await queue.submit(TENANT, function, b"1", source="test", request_id=event_id)
    functions = Mortal()
    destinations = Destinations(functions, {"sqs": MortalSink(queues)})
    delivery = Delivery(queue, functions, functions, FAST, configs=Configs(), destinations=destinations)
    delivery.start()
    while len(queue):
        await asyncio.sleep(0.002)
    await delivery.close()
    await queue.close()
    await queues.close()


asyncio.run(main(*sys.argv[1:]))
