"""How often each item of an outside source has failed: on the disk before it is tried again, so that a restart of the
daemon gives no item more tries than its mapping says.

An item is known again by a name that it has at its source. Equal messages of RabbitMQ have the same name, and then a
row each: which of them has which number makes no difference.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from sqlite3 import Connection

from alcove.host.clock import now_ms
from alcove.sources.source import Item
from alcove.store import attempts as rows
from alcove.store.database import Database

# Left by a kill between an acknowledgement and the removal of its row.
REMEMBER_MS = 4 * 86_400_000


class Attempts:
    """Those of one mapping; ``name`` says what an item is called at its source. ``load`` as that is opened; then each
    item that was handed out before is ``claim``ed as it arrives.
    """

    def __init__(self, database: Database, mapping: str, name: Callable[[Item], str]) -> None:
        self._database = database
        self._mapping = mapping
        self._name = name
        self._left: dict[str, deque[tuple[int, int]]] = defaultdict(deque)
        self._rows: dict[str, int] = {}

    async def load(self) -> None:
        self._rows.clear()
        self._left.clear()
        horizon = now_ms() - REMEMBER_MS
        for row_id, name, failures in await self._database.write(
            lambda connection: rows.known_attempts(connection, self._mapping, horizon)
        ):
            self._left[name].append((row_id, failures))

    def claim(self, item: Item) -> None:
        """Give the item its failures, if it has some."""
        left = self._left.get(self._name(item)) if self._left else None
        if left:
            self._rows[item.id], item.attempts = left.popleft()

    async def count(self, items: Sequence[Item]) -> None:
        """One failure more for each: on the disk when this returns."""
        moment = now_ms()

        def change(connection: Connection) -> dict[str, int]:
            return {item.id: self._count_one(connection, item, moment) for item in items}

        self._rows |= await self._database.write(change)
        for item in items:
            item.attempts += 1

    async def forget(self, items: Iterable[Item]) -> None:
        """They are done."""
        await self._delete([self._rows.pop(item.id) for item in items if item.id in self._rows])

    async def forget_unclaimed(self) -> None:
        """Nothing comes any more that was handed out before."""
        left = [row_id for rows_of_one in self._left.values() for row_id, _ in rows_of_one]
        self._left.clear()
        await self._delete(left)

    async def _delete(self, row_ids: Sequence[int]) -> None:
        if row_ids:
            await self._database.write(lambda connection: rows.delete_attempts(connection, row_ids))

    def _count_one(self, connection: Connection, item: Item, moment_ms: int) -> int:
        row_id = self._rows.get(item.id)
        if row_id is None:
            return rows.add_attempt(connection, self._mapping, self._name(item), item.attempts + 1, moment_ms)
        rows.set_attempts(connection, row_id, item.attempts + 1, moment_ms)
        return row_id
