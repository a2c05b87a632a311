"""One look into the queue of events: what is delivered next. Tenants and functions take turns, and one function has
only some of the places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from alcove.store import events as rows

PLACES = 64
PLACES_OF_ONE = 16


@dataclass(frozen=True, slots=True)
class Look:
    """For so many ``free`` places, past what is ``running``. ``take`` runs beside the event loop."""

    moment: int
    free: int
    running: frozenset[int]
    places: Counter[tuple[str, str]]
    unsettled: Counter[tuple[str, str]]

    def take(self, connection: Connection) -> list[rows.EventRow]:
        """Return what is to be begun with, in this order."""
        # What is not settled is still among the first. Where many functions wait, the first of each are enough.
        held, limit = max(self.unsettled.values(), default=0), self.free + len(self.running)
        chosen: list[int] = []
        for of_one in (1, PLACES_OF_ONE):
            due = rows.due_events(connection, self.moment, of_one=of_one + held, limit=limit)
            chosen = self._choose(due)
            if len(chosen) == self.free:
                break
        found = rows.find_events(connection, chosen)
        # What was put off meanwhile is not due any more.
        due_still = [row for row in found if row.due_ms <= self.moment]
        return sorted(due_still, key=lambda row: chosen.index(row.sequence))

    def _choose(self, due: Sequence[tuple[int, str, str]]) -> list[int]:
        chosen: list[int] = []
        places = self.places.copy()
        for sequence, *key in due:
            function = (key[0], key[1])
            if len(chosen) < self.free and sequence not in self.running and places[function] < PLACES_OF_ONE:
                places[function] += 1
                chosen.append(sequence)
        return chosen
