"""What a test kills: an engine that is led to a step, says so, and goes on until it is gone.

Arguments: state folder, step, and seconds to wait once the step begins.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.machine.lab import ANYTHING, open_lab

from alcove.sandbox.protocol import Runtime, Start


async def main(state: str, step: str, delay: str) -> None:
    def die() -> None:
        print(f"at {step}", flush=True)
        asyncio.get_running_loop().call_later(float(delay), os.kill, os.getpid(), signal.SIGKILL)

    async with open_lab(Path(state)) as lab:
        tier = lab.tier
        load = await lab.workload(version="31")
        match step:
            case "launch":
                die()
                while True:
                    await tier.keep_waiting(Runtime.PYTHON, tier.waiting.size + 1)
            case "boot":
                die()
                await tier.start(Runtime.PYTHON, Start.BOOTED)
            case "restore":
                die()
                while True:
                    await (await tier.start(Runtime.PYTHON, Start.RESTORED)).close()
            case "load":
                guest = await lab.start()
                die()
                await guest.sandbox.load(load)
            case "invoke":
                guest = await lab.load(ANYTHING)
                die()
                await guest.do("time.sleep(60)", timeout_s=60)
            case "snapshot":
                die()
                await tier.snapshot(load)
            case "close":
                guests = [await lab.load(ANYTHING) for _ in range(2)]
                die()
                for guest in guests:
                    await guest.sandbox.close()
            case "idle":
                guest = await lab.load(ANYTHING)
                print(await guest.do("result = TOKEN"), flush=True)
                die()
        await asyncio.sleep(60)


asyncio.run(main(*sys.argv[1:]))
