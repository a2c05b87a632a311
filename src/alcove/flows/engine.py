"""Keeps executions going: one task each, from their start, or the daemon's, to their end.

An execution is written down as running before its task begins, so a daemon that starts finds those that an earlier one
had, and goes on with them from their checkpoints. One that is stopped is so in the store first: whatever its task
writes after that is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from alcove.errors import AlcoveError
from alcove.flows import definition
from alcove.flows.calls import FunctionCaller
from alcove.flows.data import dump, encode, load
from alcove.flows.faults import Fault
from alcove.flows.interpreter import Interpreter
from alcove.flows.journal import Gone, Journal, event, insist
from alcove.flows.model import Definition
from alcove.functions.names import Reference
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import flows as rows
from alcove.store.database import Database
from alcove.store.flows import EventRow, ExecutionRow

log = logging.getLogger(__name__)

DRAIN_S = 10.0
PRUNE_EVERY_S = 600.0
PRUNED_AT_ONCE = 500
# What is kept of a tenant's executions that have ended.
KEPT_OF_TENANT = 5000
KEPT_BYTES = 256 << 20

parse = lru_cache(maxsize=128)(definition.parse)


@dataclass(frozen=True, slots=True)
class _End:
    status: str
    output: str
    last: EventRow


class Engine:
    """``start`` to ``close``."""

    def __init__(self, database: Database, caller: FunctionCaller, *, retention_s: float) -> None:
        self._database = database
        self._caller = caller
        self._retention_ms = int(retention_s * 1000)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running: Counter[TenantId] = Counter()
        self._pruner: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for row in await self._database.read(rows.running_executions):
            self.run(row)
        self._pruner = asyncio.create_task(self._prune())

    async def close(self) -> None:
        """Leave executions where they stand; functions that they called end."""
        tasks = [*self._tasks.values(), *([] if self._pruner is None else [self._pruner])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._caller.close(DRAIN_S)

    def __len__(self) -> int:
        return len(self._tasks)

    def running(self, tenant: TenantId) -> int:
        return self._running[tenant]

    def run(self, row: ExecutionRow) -> None:
        """Go on with an execution that is in the store."""
        tenant = TenantId(row.tenant_id)
        task = asyncio.create_task(self._drive(row))
        self._tasks[row.id] = task
        self._running[tenant] += 1
        task.add_done_callback(lambda _: self._ended(row.id, tenant))

    def _ended(self, execution: int, tenant: TenantId) -> None:
        self._tasks.pop(execution, None)
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]

    async def halt(self, execution: int) -> None:
        """End the task of an execution that was stopped or removed in the store."""
        task = self._tasks.get(execution)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # One execution

    async def _drive(self, row: ExecutionRow) -> None:
        try:
            points = await insist(lambda: self._database.read(lambda c: rows.list_checkpoints(c, row.id)))
            journal = Journal(self._database, row, points)
            end = await self._run(row, journal)
            if await journal.end(end.status, end.output, end.last):
                tenant = row.tenant_id
                await self._database.write(lambda c: rows.shrink_executions(c, tenant, KEPT_OF_TENANT, KEPT_BYTES))
        except Gone:
            pass
        except Exception:
            log.exception("the execution %s of the flow %s of %s", row.name, row.flow, row.tenant_id)

    async def _run(self, row: ExecutionRow, journal: Journal) -> _End:
        """Return how it ends. Raises ``Gone``."""

        async def call(reference: Reference, argument: bytes) -> bytes:
            return await self._caller.call(TenantId(row.tenant_id), reference, argument)

        try:
            known: Definition = await asyncio.to_thread(parse, row.definition)
            left_s = known.timeout_s - (now_ms() - row.started_ms) / 1000
            async with asyncio.timeout(max(0.0, left_s)) as limit:
                output = await Interpreter(known, journal, call).run(load(row.input))
            return _End("Succeed", dump(output), event("", "ExecutionSucceeded", output=output))
        except Fault as fault:
            told = {"error": fault.code, "cause": fault.cause}
            return _End("Fail", encode(told), event("", "ExecutionFailed", **told))
        except TimeoutError:
            if not limit.expired():
                raise
            return _End("Timeout", "", event("", "ExecutionTimeout", timeoutSeconds=known.timeout_s))
        except Gone:
            raise
        except Exception:
            log.exception("the execution %s of the flow %s of %s", row.name, row.flow, row.tenant_id)
            told = {"error": "XFlow.InternalError", "cause": "the server's log says more"}
            return _End("Fail", encode(told), event("", "ExecutionFailed", **told))

    # Old ones

    async def _prune(self) -> None:
        while True:
            try:
                await self.prune()
            except AlcoveError as error:
                log.warning("old executions of flows cannot be removed: %s", error)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def prune(self) -> None:
        """Remove what ended longer ago than it is kept."""
        before_ms = now_ms() - self._retention_ms
        while await self._database.write(lambda c: rows.prune_executions(c, before_ms, PRUNED_AT_ONCE)):
            pass
