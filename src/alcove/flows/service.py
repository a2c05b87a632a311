"""Flows and executions of tenants. Methods raise the ``RequestError`` that fits, or ``RetryLater``."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from alcove.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded, ThrottledError
from alcove.flows.calls import FunctionCaller
from alcove.flows.data import DATA_LIMIT, dump, load
from alcove.flows.engine import Engine, parse
from alcove.flows.faults import Fault
from alcove.flows.journal import event
from alcove.flows.model import Scope, State
from alcove.flows.yaml_text import BadDefinition
from alcove.functions.model import DispatcherProtocol, FunctionResolver
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import flows as rows
from alcove.store.database import Database
from alcove.store.flows import RUNNING, EventRow, ExecutionRow, FlowRow
from alcove.tenants.quotas import Quotas

# Executions of all tenants at once; of one, see its quotas.
RUNNING_OF_ALL = 2000
DESCRIPTION_LIMIT = 1024
PAGE_LIMIT = 100
# Longer inputs and outputs are left out of lists.
SHOWN_IN_LISTS = 4096
_FLOW_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_EXECUTION_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,63}")


class FlowService:
    """``open``, ``start``, ``close``."""

    def __init__(self, database: Database, engine: Engine, quotas: Callable[[TenantId], Quotas]) -> None:
        self._database = database
        self._engine = engine
        self._quotas = quotas
        self._starting: Counter[TenantId] = Counter()

    @classmethod
    async def open(
        cls,
        path: Path,
        functions: FunctionResolver,
        dispatcher: DispatcherProtocol,
        *,
        retention_s: float,
        quotas: Callable[[TenantId], Quotas] = lambda tenant: Quotas(),
    ) -> FlowService:
        database = await Database.open(path, schema="flows")
        engine = Engine(database, FunctionCaller(functions, dispatcher), retention_s=retention_s)
        return cls(database, engine, quotas)

    async def start(self) -> None:
        """Go on with what an earlier daemon had running."""
        await self._engine.start()

    async def pause(self) -> None:
        """Leave what runs where it stands; the next start goes on with it."""
        await self._engine.close()

    async def close(self) -> None:
        await self._engine.close()
        await self._database.close()

    def __len__(self) -> int:
        """How many executions run."""
        return len(self._engine)

    def running(self, tenant: TenantId) -> int:
        """How many executions of the tenant run."""
        return self._engine.running(tenant)

    # Flows

    async def create(self, tenant: TenantId, name: str, definition: str, description: str = "") -> FlowRow:
        await self._check(tenant, name, definition, description)
        moment = now_ms()
        row = FlowRow(tenant, name, definition, description, moment, moment)

        def write(connection: sqlite3.Connection) -> None:
            if rows.find_flow(connection, tenant, name) is not None:
                raise Conflict(f"The flow {name} exists already.", hint="update it")
            limit = self._quotas(tenant).flows
            if rows.count_flows(connection, tenant) >= limit:
                raise QuotaExceeded(
                    f"This tenant may have {limit} flows.", code="flows", hint="remove one that is not needed"
                )
            rows.put_flow(connection, row)

        await self._database.write(write)
        return row

    async def update(self, tenant: TenantId, name: str, definition: str, description: str = "") -> FlowRow:
        """Executions that run go on by the definition that they began with."""
        await self._check(tenant, name, definition, description)

        def write(connection: sqlite3.Connection) -> FlowRow:
            found = _find_flow(connection, tenant, name)
            row = replace(found, definition=definition, description=description, modified_ms=now_ms())
            rows.put_flow(connection, row)
            return row

        return await self._database.write(write)

    async def get(self, tenant: TenantId, name: str) -> FlowRow:
        return await self._database.read(lambda connection: _find_flow(connection, tenant, name))

    async def list(self, tenant: TenantId) -> Sequence[FlowRow]:
        return await self._database.read(lambda connection: rows.list_flows(connection, tenant))

    async def count(self, tenant: TenantId) -> int:
        return await self._database.read(lambda connection: rows.count_flows(connection, tenant))

    async def delete(self, tenant: TenantId, name: str) -> None:
        """Remove a flow with what is kept of its executions. Raises ``Conflict`` while one runs."""

        def write(connection: sqlite3.Connection) -> None:
            _find_flow(connection, tenant, name)
            running = rows.count_running(connection, tenant, name)
            if running:
                raise Conflict(f"{running} executions of the flow {name} run.", hint="stop them, or wait for their end")
            rows.delete_flow(connection, tenant, name)

        await self._database.write(write)

    async def delete_every(self, tenant: TenantId) -> None:
        """Remove all flows of the tenant, and end what of them runs."""

        def write(connection: sqlite3.Connection) -> list[int]:
            own = [row.id for row in rows.running_executions(connection) if row.tenant_id == tenant]
            rows.delete_tenant(connection, tenant)
            return own

        for execution in await self._database.write(write):
            await self._engine.halt(execution)

    async def _check(self, tenant: TenantId, name: str, definition: str, description: str) -> None:
        _check_name(name, _FLOW_NAME, "flow")
        if len(description) > DESCRIPTION_LIMIT:
            raise InvalidRequest(f"The description must have at most {DESCRIPTION_LIMIT} characters.")
        known = await asyncio.to_thread(parse, definition)
        for state in _states(known.scope):
            account = None if state.function is None else state.function.account
            if account not in (None, tenant):
                raise BadDefinition(f"state {state.name!r}: 'resource' is not a function of this account.")

    # Executions

    async def begin(self, tenant: TenantId, flow: str, name: str, text: str) -> ExecutionRow:
        """Start an execution; it is on the disk when this returns. The same name with the same input again is the same
        execution; with another input it is refused.
        """
        name = name or str(uuid.uuid4())
        _check_name(name, _EXECUTION_NAME, "execution")
        data = _input(text)
        await self._require_room(tenant, flow, name)
        moment = now_ms()

        def write(connection: sqlite3.Connection) -> tuple[ExecutionRow, bool]:
            found = _find_flow(connection, tenant, flow)
            known = rows.find_execution(connection, tenant, flow, name)
            if known is not None:
                if known.input != data:
                    raise Conflict(f"There was an execution {name} already.", hint="choose another name")
                return known, False
            size = len(found.definition) + len(data)
            row = ExecutionRow(
                *(tenant, flow, name, found.definition, data, RUNNING, "", moment, 0, 0, size),
            )
            made = replace(row, id=rows.insert_execution(connection, row))
            rows.add_events(connection, made.id, [event("", "ExecutionStarted", input=load(data))])
            return replace(made, events=1), True

        # Counted at once, so that no more than the limit pass it together.
        self._starting[tenant] += 1
        try:
            row, new = await self._database.write(write)
            if new:
                self._engine.run(row)
        finally:
            self._starting[tenant] -= 1
        return row

    async def _require_room(self, tenant: TenantId, flow: str, name: str) -> None:
        own = self._engine.running(tenant) + self._starting[tenant]
        limit = self._quotas(tenant).executions
        if own < limit and len(self._engine) + self._starting.total() < RUNNING_OF_ALL:
            return
        # Asked for again, it takes no room.
        if await self._database.read(lambda c: rows.find_execution(c, tenant, flow, name)) is None:
            raise ThrottledError("Too many executions run.", hint=f"this tenant may have {limit} at once")

    async def stop(self, tenant: TenantId, flow: str, name: str) -> ExecutionRow:
        """Stop an execution; one that has ended stays as it is. A function that it called goes on to its end."""

        def write(connection: sqlite3.Connection) -> ExecutionRow:
            found = _find_execution(connection, tenant, flow, name)
            last = event("", "ExecutionStopped")
            if rows.add_events(connection, found.id, [last]):
                rows.end_execution(connection, found.id, "Stopped", "", last.time_ms)
            return _find_execution(connection, tenant, flow, name)

        row = await self._database.write(write)
        await self._engine.halt(row.id)
        return row

    async def describe(self, tenant: TenantId, flow: str, name: str) -> ExecutionRow:
        return await self._database.read(lambda connection: _find_execution(connection, tenant, flow, name))

    async def executions(
        self, tenant: TenantId, flow: str, *, before: int = 0, limit: int = PAGE_LIMIT
    ) -> tuple[int, Sequence[ExecutionRow]]:
        """Return how many there are, and the newest of those with ids lower than ``before``, without what is long."""
        limit = max(1, min(limit, PAGE_LIMIT))

        def read(connection: sqlite3.Connection) -> tuple[int, list[ExecutionRow]]:
            _find_flow(connection, tenant, flow)
            found = rows.list_executions(connection, tenant, flow, before or 1 << 62, limit)
            return rows.count_executions(connection, tenant, flow), [_short(row) for row in found]

        return await self._database.read(read)

    async def history(
        self, tenant: TenantId, flow: str, name: str, *, after: int = 0, limit: int = PAGE_LIMIT
    ) -> tuple[ExecutionRow, Sequence[tuple[int, EventRow]]]:
        """Return the execution and its events with numbers above ``after``."""

        def read(connection: sqlite3.Connection) -> tuple[ExecutionRow, list[tuple[int, EventRow]]]:
            found = _find_execution(connection, tenant, flow, name)
            return found, rows.list_events(connection, found.id, after, limit)

        return await self._database.read(read)


def _states(scope: Scope) -> Iterator[State]:
    for state in scope.states.values():
        yield state
        for inner in state.scopes:
            yield from _states(inner)


def _check_name(name: str, form: re.Pattern[str], what: str) -> None:
    if not form.fullmatch(name):
        raise InvalidRequest(f"The {what} name {name[:80]!r} must match ^{form.pattern}$.")


def _input(text: str) -> str:
    """Return the input as it is kept. Raises ``InvalidRequest``."""
    if len(text) > DATA_LIMIT:
        raise InvalidRequest(f"The input has more than {DATA_LIMIT} bytes.")
    try:
        return dump(load(text or "{}"))
    except Fault as fault:
        raise InvalidRequest(f"The input is not accepted: {fault.cause}.", hint="send a JSON object") from None


def _short(row: ExecutionRow) -> ExecutionRow:
    given, output = (text if len(text) <= SHOWN_IN_LISTS else "" for text in (row.input, row.output))
    return replace(row, definition="", input=given, output=output)


def _find_flow(connection: sqlite3.Connection, tenant: TenantId, name: str) -> FlowRow:
    found = rows.find_flow(connection, tenant, name)
    if found is None:
        raise NotFound(f"There is no flow {name[:64]!r}.")
    return found


def _find_execution(connection: sqlite3.Connection, tenant: TenantId, flow: str, name: str) -> ExecutionRow:
    found = rows.find_execution(connection, tenant, flow, name)
    if found is None:
        raise NotFound(f"There is no execution {name[:64]!r} of the flow {flow[:64]!r}.")
    return found
