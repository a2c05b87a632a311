"""Which uploads under way a listing shows. There are few (``UPLOADS_LIMIT``), so all are looked through."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from alcove.buckets.model import Upload


@dataclass(frozen=True, slots=True)
class UploadPage:
    """``after``: key and id of what the next page comes after, None at the end."""

    uploads: tuple[Upload, ...]
    prefixes: tuple[str, ...]
    after: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class UploadListing:
    """``key`` and ``id`` are what the page comes after; without an id, all uploads of that key are skipped."""

    prefix: str = ""
    delimiter: str = ""
    key: str = ""
    id: str = ""
    limit: int = 1000

    def page(self, uploads: Iterable[Upload]) -> UploadPage:
        """``uploads`` are in the order of their keys, then of their ids."""
        shown: list[Upload] = []
        prefixes: list[str] = []
        last = (self.key, self.id)
        for one in uploads:
            common = self._common(one.key)
            if not one.key.startswith(self.prefix) or self._is_past(one, common) or common in prefixes:
                continue
            if len(shown) + len(prefixes) == self.limit:
                return UploadPage(tuple(shown), tuple(prefixes), last)
            if common:
                prefixes.append(common)
                last = (common, "")
            else:
                shown.append(one)
                last = (one.key, one.id)
        return UploadPage(tuple(shown), tuple(prefixes), None)

    def _is_past(self, one: Upload, common: str) -> bool:
        if common:
            return common <= self.key
        return one.key < self.key or (one.key == self.key and (not self.id or one.id <= self.id))

    def _common(self, key: str) -> str:
        if not self.delimiter:
            return ""
        end = key.find(self.delimiter, len(self.prefix))
        return "" if end < 0 else key[: end + len(self.delimiter)]
