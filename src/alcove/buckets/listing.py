"""Which objects a listing shows: prefix, delimiter, where it starts and how long it is."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from alcove.buckets.model import Page, StoredObject
from alcove.buckets.records import to_object
from alcove.store import buckets as rows

MOST = 1000
# Comes after all that a key of 1,024 bytes can have behind a prefix, in the order of UTF-8's bytes.
_LAST = "\U0010ffff" * 257
# Rows read at once where common prefixes may be jumped over.
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Listing:
    """``after`` excludes itself, and where it is a common prefix what is in it."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = MOST

    def page(self, connection: sqlite3.Connection, bucket_id: str) -> Page:
        """Runs inside ``Database.read``. Common prefixes are jumped over, so that the work is bounded by ``limit``."""
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        start, inclusive = (self.prefix, True) if self.prefix > self.after else (self.after, False)
        last = ""
        batch = _BATCH if self.delimiter else self.limit + 1
        while True:
            found = rows.scan_objects(connection, bucket_id, start, inclusive=inclusive, limit=batch)
            inclusive = False
            for row in found:
                if not row.key.startswith(self.prefix):
                    return Page(tuple(objects), tuple(prefixes), None)
                common = self._common(row.key)
                if common and common <= self.after:
                    start = common + _LAST
                    break
                if len(objects) + len(prefixes) == self.limit:
                    return Page(tuple(objects), tuple(prefixes), last or self.after)
                last = common or row.key
                if common:
                    prefixes.append(common)
                    start = common + _LAST
                    break
                objects.append(to_object(row))
                start = row.key
            else:
                if len(found) < batch:
                    return Page(tuple(objects), tuple(prefixes), None)

    def _common(self, key: str) -> str:
        if not self.delimiter:
            return ""
        end = key.find(self.delimiter, len(self.prefix))
        return "" if end < 0 else key[: end + len(self.delimiter)]
