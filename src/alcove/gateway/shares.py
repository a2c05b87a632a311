"""Connections shared out: nobody behind the addresses that one owner has can take them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Shares:
    """``owner_of`` an address is None for those that may not connect at all."""

    def __init__(self, owner_of: Callable[[str], str | None], limit: int) -> None:
        self._owner_of = owner_of
        self._limit = limit
        self._taken: Counter[str] = Counter()
        self._owners: dict[object, str] = {}

    def take(self, holder: object, address: str) -> bool:
        owner = self._owner_of(address)
        if owner is None or self._taken[owner] >= self._limit:
            return False
        self._taken[owner] += 1
        self._owners[holder] = owner
        return True

    def give(self, holder: object) -> None:
        owner = self._owners.pop(holder, None)
        if owner is not None:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
