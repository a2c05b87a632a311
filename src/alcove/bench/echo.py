"""A tier without machines, and a whole server over it: what the control plane and the gateway cost by themselves.

``python -m alcove.bench.echo STATE`` serves on ``STATE/run/api.sock`` and on a free TCP port until SIGTERM; it
prints the port when it is ready. Every function answers with its event, at once.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from alcove.bench.bare import BareSandbox, BareTier, open_server
from alcove.host.garbage import spare_what_is_there
from alcove.sandbox.protocol import Invocation, Outcome, Runtime, Sandbox, Start
from alcove.settings import Settings


class EchoSandbox(BareSandbox):
    """Answers with the event."""

    def __init__(self, runtime: Runtime, tier: EchoTier) -> None:
        super().__init__(runtime)
        self._tier = tier

    async def invoke(self, invocation: Invocation) -> Outcome:
        self._tier.observe(invocation)
        self.mark(invocation)
        return Outcome(invocation.event)


class EchoTier(BareTier):
    """Starts at once. ``observe`` is told of each invocation."""

    def __init__(self) -> None:
        self.observe: Callable[[Invocation], None] = lambda invocation: None

    async def start(self, runtime: Runtime, how: Start | None = None) -> Sandbox:
        return EchoSandbox(runtime, self)


async def _main(state: Path) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    settings = Settings(state=state, run=state / "run", max_sandboxes=1000, memory_reserve_mib=0)
    async with AsyncExitStack() as stack:
        _, port = await open_server(stack, settings, EchoTier())
        # As the daemon does.
        spare_what_is_there()
        print(port, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(Path(sys.argv[1])))
