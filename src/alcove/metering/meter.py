"""What each call used, counted exactly once whatever ends the process.

``record`` writes a line into the journal before the call's answer leaves. Once a second the journal's segment is
closed, and its sums are added to the database in one transaction that also says which segment that was; then the file
goes. At a start, segments that are in the sums are removed, and the others are added. So a call that was answered is
counted once over any kill -9; one that was not answered may be counted, if it had come to its end.

A power cut takes at most what was not added yet, about a second, in the tenants' favour
(docs/decisions/0013-metering.md). A full disk stops no call: what cannot be written stays in memory until it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from pathlib import Path

from alcove.errors import AlcoveError
from alcove.functions.model import FunctionVersion
from alcove.functions.observed import Observation
from alcove.host.clock import now_ms
from alcove.host.files import private_folder
from alcove.host.months import month_of, months_ago
from alcove.metering.journal import CallRecord, Segment, read_segment, segments
from alcove.metering.sums import Sums
from alcove.store import metering as rows
from alcove.store.database import Database

log = logging.getLogger(__name__)

FOLD_EVERY_S = 1.0
MONTHS_KEPT = 25


class Meter:
    """``await Meter.open(state)`` to ``await close()``; an ``Observer`` of the dispatcher."""

    def __init__(self, folder: Path, database: Database, newest: int) -> None:
        self._folder = folder
        self.database = database
        self._newest = newest
        self._segment: Segment | None = None
        self._sums = Sums()
        self._waiting: list[tuple[int, Sums]] = []
        self._folding = asyncio.Lock()
        self._folder_task: asyncio.Task[None] | None = None
        self._month = ("", 0, 0)
        self._journal_broken = False

    @classmethod
    async def open(cls, state: Path) -> Meter:
        """Open the sums and add what an earlier process had not."""
        folder = private_folder(state / "metering")
        database = await Database.open(folder / "metering.db", schema="metering")
        newest = await _recover(folder, database)
        return cls(folder, database, newest)

    def start(self) -> None:
        self._folder_task = asyncio.create_task(self._fold_again_and_again())

    @property
    def unsaved(self) -> int:
        """Calls that are only in memory and the journal."""
        return self._sums.calls + sum(sums.calls for _, sums in self._waiting)

    # The hot path

    def answered(self, seen: Observation) -> None:
        """Record a call whose answer is about to leave."""
        function, result = seen.function, seen.result
        self.record(
            CallRecord(
                self._month_now(),
                function.tenant,
                function.name,
                result.error is not None,
                result.billed_ms,
                function.memory_mib,
                seen.streamed_bytes,
                result.request_id,
            )
        )

    def refused(self, function: FunctionVersion, error: AlcoveError) -> None:
        """What was not run costs nothing."""

    def record(self, record: CallRecord) -> None:
        try:
            if self._segment is None:
                self._newest += 1
                self._segment = Segment(self._folder, self._newest)
            self._segment.append(record)
            self._journal_broken = False
        except OSError as error:
            if not self._journal_broken:
                log.warning("the meter's journal cannot be written, calls are counted in memory: %s", error)
            self._journal_broken = True
        self._sums.add(record)

    def _month_now(self) -> str:
        now = now_ms()
        _, begins, ends = self._month
        if not begins <= now < ends:
            self._month = month_of(now)
        return self._month[0]

    # Adding up

    async def fold(self) -> None:
        """Add to the database what was recorded until now. Raises ``AlcoveError`` where that cannot be written."""
        async with self._folding:
            self._close_segment()
            waiting = list(self._waiting)
            if not waiting:
                return

            def change(connection: sqlite3.Connection) -> None:
                for number, sums in waiting:
                    rows.fold_segment(connection, number, sums.rows())

            await self.database.write(change)
            del self._waiting[: len(waiting)]
            # Those that are left here after a crash are known to be in the sums.
            await asyncio.to_thread(_remove_up_to, self._folder, waiting[-1][0])

    def _close_segment(self) -> None:
        if not self._sums.calls:
            return
        if self._segment is None:
            # Nothing could be written: the sums get a number all the same.
            self._newest += 1
        else:
            self._segment.close()
        self._waiting.append((self._newest, self._sums))
        self._segment, self._sums = None, Sums()

    async def _fold_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(FOLD_EVERY_S)
            try:
                await self.fold()
            except (AlcoveError, OSError) as error:
                log.warning("what was used cannot be added up now: %s", error)

    async def close(self) -> None:
        if self._folder_task is not None:
            self._folder_task.cancel()
            await asyncio.gather(self._folder_task, return_exceptions=True)
        try:
            await self.fold()
        except (AlcoveError, OSError) as error:
            log.warning("what was used is added up at the next start: %s", error)
        await self.database.close()


async def _recover(folder: Path, database: Database) -> int:
    """Add the segments that an earlier process left; return the newest number that was ever used."""
    newest = await database.read(rows.folded_segment)
    for number, path in await asyncio.to_thread(segments, folder):
        if number > newest:
            await _add_segment(database, number, path)
            newest = number
    await asyncio.to_thread(_remove_up_to, folder, newest)
    oldest = months_ago(MONTHS_KEPT)
    await database.write(lambda connection: rows.delete_usage_before(connection, oldest))
    return newest


async def _add_segment(database: Database, number: int, path: Path) -> None:
    found = await asyncio.to_thread(lambda: Sums.of(read_segment(path)).rows())
    await database.write(lambda connection: rows.fold_segment(connection, number, found))


def _remove_up_to(folder: Path, number: int) -> None:
    for known, path in segments(folder):
        if known <= number:
            with contextlib.suppress(OSError):
                path.unlink()
