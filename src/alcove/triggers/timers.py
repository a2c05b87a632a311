"""The control plane of timers: made, listed, changed, removed. Each change is written, then acted on."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from alcove.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded, TooLarge
from alcove.functions.model import LATEST, FunctionResolver
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import timers as rows
from alcove.store.database import Database
from alcove.tenants.quotas import Quotas
from alcove.triggers.runs import TimerRuns
from alcove.triggers.schedule import parse_schedule
from alcove.triggers.timer import Shape, Timer

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Amazon EventBridge: "Input" of a target, 8,192 characters.
INPUT_LIMIT = 8192
PAGE_LIMIT = 100


@dataclass(frozen=True, slots=True)
class TimerSpec:
    """What a client says of a timer. Dates are Unix milliseconds."""

    function: str
    schedule: str
    qualifier: str = ""
    zone: str = "UTC"
    input: str = ""
    enabled: bool = True
    start_ms: int | None = None
    end_ms: int | None = None
    shape: Shape = Shape.AWS


class TimerService:
    """All methods are scoped by tenant; they raise the ``RequestError`` that fits."""

    def __init__(
        self,
        database: Database,
        functions: FunctionResolver,
        runs: TimerRuns,
        *,
        clock_ms: Callable[[], int] = now_ms,
        limit: Callable[[TenantId], int] = lambda tenant: Quotas().timers,
    ) -> None:
        self._database = database
        self._functions = functions
        self.runs = runs
        self._clock_ms = clock_ms
        self._limit = limit

    async def create(self, tenant: TenantId, name: str, spec: TimerSpec) -> Timer:
        """Raises ``Conflict`` where the name is taken."""
        if not NAME.fullmatch(name):
            raise InvalidRequest("A timer's name has 1 to 64 letters, digits, points, hyphens or underscores.")
        row = await self._row(tenant, name, spec)

        def change(connection: sqlite3.Connection) -> None:
            limit = self._limit(tenant)
            if rows.count_timers(connection, tenant) >= limit:
                raise QuotaExceeded(
                    f"This tenant may have {limit} timers.", code="timers", hint="remove one that is not needed"
                )
            rows.insert_timer(connection, row)

        try:
            await self._database.write(change)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"A timer named {name!r} exists.") from error
        timer = Timer(row)
        self.runs.put(timer)
        return timer

    async def update(self, tenant: TenantId, name: str, spec: TimerSpec) -> Timer:
        """Write everything but name and id anew. What was due before the change is not caught up."""
        wanted = await self._row(tenant, name, spec)

        def change(connection: sqlite3.Connection) -> rows.TimerRow:
            known = self._find(connection, tenant, name)
            same_rate = known.schedule == wanted.schedule
            row = replace(
                wanted,
                id=known.id,
                created_ms=known.created_ms,
                anchor_ms=known.anchor_ms if same_rate else wanted.anchor_ms,
                handled_ms=max(known.handled_ms, wanted.handled_ms),
            )
            rows.replace_timer(connection, row)
            return row

        timer = Timer(await self._database.write(change))
        self.runs.put(timer)
        return timer

    async def get(self, tenant: TenantId, name: str) -> Timer:
        return Timer(await self._database.read(lambda connection: self._find(connection, tenant, name)))

    async def list(self, tenant: TenantId, after: str = "", limit: int = PAGE_LIMIT) -> tuple[list[Timer], str | None]:
        """Return timers by name, and where to go on, None at the end."""
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await self._database.read(lambda connection: rows.list_timers(connection, tenant, after, limit + 1))
        return [Timer(row) for row in found[:limit]], found[limit - 1].name if len(found) > limit else None

    async def delete(self, tenant: TenantId, name: str) -> None:
        def change(connection: sqlite3.Connection) -> rows.TimerRow:
            row = self._find(connection, tenant, name)
            rows.delete_timer(connection, row.id)
            return row

        self.runs.drop(Timer(await self._database.write(change)).id)

    async def count(self, tenant: TenantId) -> int:
        return await self._database.read(lambda connection: rows.count_timers(connection, tenant))

    async def delete_every(self, tenant: TenantId) -> None:
        """Delete all timers of the tenant."""
        for row in await self._database.write(lambda connection: rows.delete_timers(connection, tenant)):
            self.runs.drop(Timer(row).id)

    async def _row(self, tenant: TenantId, name: str, spec: TimerSpec) -> rows.TimerRow:
        moment = self._clock_ms()
        parse_schedule(spec.schedule, spec.zone, moment)
        if spec.start_ms is not None and spec.end_ms is not None and spec.end_ms <= spec.start_ms:
            raise InvalidRequest("The end date must be later than the start date.")
        check_input(spec.input)
        await self._functions.resolve(tenant, spec.function, spec.qualifier or LATEST)
        return rows.TimerRow(
            id=uuid.uuid4().hex,
            tenant_id=tenant,
            name=name,
            function=spec.function,
            qualifier=spec.qualifier,
            schedule=spec.schedule.strip(),
            zone=spec.zone,
            input=spec.input,
            shape=spec.shape,
            enabled=int(spec.enabled),
            start_ms=spec.start_ms,
            end_ms=spec.end_ms,
            anchor_ms=moment,
            handled_ms=moment,
            last_error="",
            created_ms=moment,
        )

    @staticmethod
    def _find(connection: sqlite3.Connection, tenant: TenantId, name: str) -> rows.TimerRow:
        row = rows.find_timer(connection, tenant, name)
        if row is None:
            raise NotFound(f"There is no timer {name[:80]!r}.")
        return row


def check_input(text: str) -> None:
    """The input becomes the event, so it must be JSON. Raises ``TooLarge``, ``InvalidRequest``."""
    if len(text.encode(errors="surrogatepass")) > INPUT_LIMIT:
        raise TooLarge(f"A timer's input has at most {INPUT_LIMIT} bytes.")
    if text:
        try:
            text.encode()
            json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("A timer's input must be JSON.") from error
