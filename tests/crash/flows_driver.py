"""What the test of flows kills: executions of flows, until the step at which they die.

Arguments: folder, number of executions, the step (``calling``, ``called``: a function; ``writing``, ``written``: a
checkpoint; ``ending``, ``ended``: an execution) and how often it is passed before the end. Exits with 0 where every
execution has ended. What functions are called with is appended to ``calls`` in the folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.crash.death import Death

from alcove.flows.journal import Journal
from alcove.flows.service import FlowService
from alcove.functions.model import InvokeResult
from alcove.sandbox.protocol import TenantId

TENANT = TenantId("t")
DEFINITION = """
name: crash
start: first
states:
  - {type: operation, name: first, resource: first, next: rest}
  - {type: wait, name: rest, seconds: 0, next: each}
  - type: foreach
    name: each
    inputCollection: "[.id + \\"a\\", .id + \\"b\\", .id + \\"c\\"]"
    iterationParam: id
    outputCollection: .results
    iterator:
      start: call
      states: [{type: operation, name: call, resource: item, next: done}, {type: succeed, name: done}]
    next: both
  - type: parallel
    name: both
    branches:
      - start: left
        states: [{type: operation, name: left, resource: left, end: true}]
      - start: right
        states: [{type: operation, name: right, resource: right, end: true}]
    end: true
"""


class Functions:
    """Write down what they are called with, and answer it."""

    def __init__(self, path: Path, death: Death) -> None:
        self._calls = path.open("a")
        self._death = death

    async def resolve(self, tenant: TenantId, name: str, version: str = "") -> Any:
        return name

    async def invoke(self, function: Any, event: bytes, **options: Any) -> InvokeResult:
        self._death.at("calling")
        print(f"{function} {json.loads(event)['id']}", file=self._calls, flush=True)
        await asyncio.sleep(0)
        self._death.at("called")
        return InvokeResult(event, None, "r", "warm", "", {}, 1, b"", "1", "s")


def mortal(death: Death) -> None:
    """Let the journal die at its steps."""
    write, end = Journal.write, Journal.end

    async def dying_write(journal: Journal, *arguments: Any, **options: Any) -> None:
        death.at("writing")
        await write(journal, *arguments, **options)
        death.at("written")

    async def dying_end(journal: Journal, *arguments: Any) -> bool:
        death.at("ending")
        done = await end(journal, *arguments)
        death.at("ended")
        return done

    Journal.write, Journal.end = dying_write, dying_end  # type: ignore[method-assign]


async def main(folder: str, executions: str, step: str, left: str) -> None:
    death = Death(step, int(left))
    mortal(death)
    functions: Any = Functions(Path(folder) / "calls", death)
    flows = await FlowService.open(Path(folder) / "flows.db", functions, functions, retention_s=3600)
    await flows.start()
    if not await flows.list(TENANT):
        await flows.create(TENANT, "f", DEFINITION)
    for number in range(int(executions)):
        await flows.begin(TENANT, "f", f"e{number}", json.dumps({"id": f"e{number}"}))
    while len(flows):
        await asyncio.sleep(0.002)
    await flows.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
