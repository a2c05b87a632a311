"""Sums of calls by month, tenant and function: whole numbers, so that no order of adding makes a difference."""

from __future__ import annotations

from collections.abc import Iterable

from alcove.metering.journal import CallRecord
from alcove.store.metering import UsageRow


class Sums:
    """``calls`` is their number."""

    __slots__ = ("_sums", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self._sums: dict[tuple[str, str, str], list[int]] = {}

    @classmethod
    def of(cls, records: Iterable[CallRecord]) -> Sums:
        sums = cls()
        for record in records:
            sums.add(record)
        return sums

    def add(self, record: CallRecord) -> None:
        key = (record.month, record.tenant, record.function)
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0, 0, 0, 0, 0]
        sums[0] += 1
        sums[1] += record.failed
        sums[2] += record.billed_ms
        sums[3] += record.billed_ms * record.memory_mib
        sums[4] += record.streamed_bytes
        self.calls += 1

    def rows(self) -> list[UsageRow]:
        return [UsageRow(*key, *sums) for key, sums in self._sums.items()]
