"""What the test of metering kills: a dispatcher with a meter over the tier without machines, called without pause.

Arguments: folder, number of this life, the step at which it dies, and how often that step comes before. Prints
``begun ID`` before a call and ``answered ID`` after it, as a client would see it; each call has a function of its own,
so that every one of them is found in the sums by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.fakes import FakeTier
from tests.unit.test_dispatcher import function

from alcove.functions.logs import LogStore
from alcove.functions.observed import ObservedDispatcher
from alcove.metering import meter as module
from alcove.metering.journal import Segment
from alcove.metering.meter import Meter
from alcove.sandbox.protocol import Isolation


class Death:
    """Kills the process when ``step`` has come ``left`` times."""

    def __init__(self, step: str, left: int) -> None:
        self.step, self.left = step, left

    def at(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def arm(meter: Meter, death: Death) -> None:
    append, write, remove = Segment.append, meter.database.write, module._remove_up_to

    def appending(self: Segment, record: Any) -> None:
        death.at("before line")
        append(self, record)
        death.at("after line")

    async def writing(change: Any) -> Any:
        def inside(connection: Any) -> Any:
            result = change(connection)
            death.at("before commit")
            return result

        result = await write(inside)
        death.at("after commit")
        return result

    def removing(*arguments: Any) -> None:
        death.at("before removal")
        remove(*arguments)

    Segment.append = appending  # type: ignore[method-assign]
    meter.database.write = writing  # type: ignore[method-assign]
    module._remove_up_to = removing


async def caller(dispatcher: ObservedDispatcher, life: str, number: int) -> None:
    for call in range(1_000_000):
        name = f"f-{life}-{number}-{call}"
        os.write(1, f"begun {name}\n".encode())
        await dispatcher.invoke(function(name=name), b"1")
        os.write(1, f"answered {name}\n".encode())


async def main(folder: str, life: str, step: str, count: str) -> None:
    module.FOLD_EVERY_S = 0.01
    meter = await Meter.open(Path(folder))
    arm(meter, Death(step, int(count)))
    tier = FakeTier()
    dispatcher = ObservedDispatcher({Isolation.VM: tier}, LogStore(Path(folder) / "logs"), pool_sizes={})
    dispatcher.observers = (meter,)
    meter.start()
    await asyncio.gather(*(caller(dispatcher, life, number) for number in range(4)))


asyncio.run(main(*sys.argv[1:]))
