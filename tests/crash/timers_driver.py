"""What the test of timers kills: timers and a queue, whose clock runs fast, until the run at which they die.

Arguments: folder, when the clock began (Unix seconds), number of timers, seconds that a minute takes, the step
(``before`` or ``after`` the queue accepts) and the number of the run that is the last. Prints the clock's time of its
start and of when all that was missed before was made up for (ms).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from alcove.errors import Conflict
from alcove.events.queue import EventQueue
from alcove.sandbox.protocol import TenantId
from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timers import TimerService, TimerSpec

DAY_MS = 86_400_000


class AnyFunction:
    async def resolve(self, tenant: TenantId, name: str, version: str = "") -> Any:
        return None


class Deadly:
    """Hands on to the queue until the last run."""

    def __init__(self, queue: EventQueue, step: str, last: int) -> None:
        self._queue, self._step, self._left = queue, step, last

    async def submit(self, *arguments: Any, **options: Any) -> str:
        self._left -= 1
        if self._left == 0 and self._step == "before":
            # Long enough for whatever is written too early.
            await asyncio.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        dies = self._left == 0
        request_id = await self._queue.submit(*arguments, **options)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return request_id


async def main(folder: str, began: str, timers: str, minute_s: str, step: str, last: str) -> None:
    def clock() -> int:
        return int((time.time() - float(began)) / float(minute_s) * 60_000)

    database = await Database.open(Path(folder) / "alcove.db")
    tenant = (await TenantDirectory.open(database)).default.id
    queue = await EventQueue.open(Path(folder) / "events.db")
    runs = TimerRuns(database, Deadly(queue, step, int(last)), region="r", window_ms=DAY_MS, clock_ms=clock)
    service = TimerService(database, AnyFunction(), runs, clock_ms=clock)
    started_ms = clock()
    await runs.start()
    for number in range(int(timers)):
        try:
            await service.create(tenant, f"t{number}", TimerSpec("f", "rate(1 minute)"))
        except Conflict:
            pass
    runs.wheel.tick()
    while runs._tasks:
        await asyncio.sleep(0.001)
    print(started_ms, clock(), flush=True)
    while True:
        # By itself the wheel looks at the clock in real seconds.
        runs.wheel.tick()
        await asyncio.sleep(0.002)


asyncio.run(main(*sys.argv[1:]))
