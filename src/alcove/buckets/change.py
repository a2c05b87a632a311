"""What happened to an object, and who made it happen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an object; ``size`` and ``etag`` only where there is one now."""

    event: str
    key: str
    sequencer: int
    at_ms: int
    size: int | None = None
    etag: str = ""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Who made the change, by which request, from where; ``copied_from``: bucket and key of what was copied."""

    principal: str = ""
    request_id: str = ""
    address: str = ""
    copied_from: tuple[str, str] | None = None
