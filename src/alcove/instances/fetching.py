"""Fetching an image: how far it has come, and when it is given up.

CRI says nothing of a fetch before its end, and waits for a registry for as long as that holds the connection.
containerd's own services know what is written and unpacked: a fetch that moves none of it for a while is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from alcove.errors import AlcoveError
from alcove.instances.cri import Cri, CriError
from alcove.wire.protobuf import INT64, STRING, Field, Message

_STATUSES = "/containerd.services.content.v1.Content/ListStatuses"
_REQUEST = Message("ListContentStatusesRequest", Field(1, "filters", STRING, repeated=True))
_STATUS = Message("Status", Field(3, "ref", STRING), Field(4, "offset", INT64), Field(5, "total", INT64))
_ANSWER = Message("ListContentStatusesResponse", Field(1, "statuses", _STATUS, repeated=True))
_SNAPSHOTS = "/containerd.services.snapshots.v1.Snapshots/List"
_LIST = Message("ListSnapshotsRequest", Field(1, "snapshotter", STRING), Field(2, "filters", STRING, repeated=True))
_INFO = Message("Info", Field(1, "name", STRING))
_LISTED = Message("ListSnapshotsResponse", Field(1, "info", _INFO, repeated=True))
# A layer that is being unpacked has a snapshot of this name.
_UNPACKING = {"snapshotter": "overlayfs", "filters": ["name~=extract-"]}
_LOOK_EVERY_S = 0.2
# Nothing shows how far a layer is unpacked: it may take this many times longer than a registry that says nothing.
_UNPACK_FACTOR = 10

# What is found in containerd's words, and what to do then.
_HINTS = (
    (("401", "403", "authorization failed", "no basic auth credentials"), "name credentials by --registry-auth"),
    (("unexpected commit digest", "failed size validation"), "what the registry sent is not what its digest says"),
    (("not found", "failed to resolve"), "check the image's name and tag, and --registry-mirrors"),
    (("connection refused", "no such host", "i/o timeout"), "check the registry, and --registry-mirrors"),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of what is being fetched by anyone now; ``done`` of ``total`` as far as that is known."""

    done: int
    total: int


async def fetch(
    cri: Cri, reference: str, auth: dict[str, Any] | None, *, stall_s: float
) -> AsyncGenerator[Progress | str, None]:
    """Fetch an image; yield how far it has come, and its id at the end. Raises ``AlcoveError``, with a hint."""
    task = asyncio.create_task(cri.pull(reference, auth))
    watch = _Watch(cri, reference, stall_s)
    try:
        while not task.done():
            yield await watch.look()
            await asyncio.wait((task,), timeout=_LOOK_EVERY_S)
        yield await task
    except AlcoveError as error:
        if error.hint:
            raise
        raise type(error)(str(error), hint=hint(str(error))) from error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hint(words: str) -> str:
    """Return what to do where containerd says this, or nothing."""
    return next((text for marks, text in _HINTS if any(mark in words for mark in marks)), "")


class _Watch:
    """``look`` tells how far it is. Raises ``CriError`` when nothing has moved for too long."""

    def __init__(self, cri: Cri, reference: str, stall_s: float) -> None:
        self._cri = cri
        self._reference = reference
        self._stall_s = stall_s
        self._moved_s = asyncio.get_running_loop().time()
        self._seen: tuple[object, ...] = ()

    async def look(self) -> Progress:
        now_s = asyncio.get_running_loop().time()
        try:
            statuses = (await self._cri.ask(_STATUSES, {}, (_REQUEST, _ANSWER)))["statuses"]
            unpacking = await self._unpacking()
        except AlcoveError:
            # It is containerd that does not answer: the fetch itself will say so.
            self._moved_s = now_s
            return Progress(0, 0)
        seen = (*sorted((one["ref"], one["offset"]) for one in statuses), *unpacking)
        if seen != self._seen:
            self._seen, self._moved_s = seen, now_s
        elif now_s - self._moved_s > self._stall_s * (_UNPACK_FACTOR if unpacking else 1):
            raise CriError(
                f"the image {self._reference} was given up: nothing of it has come for {self._stall_s:g} s",
                hint="the registry stalls: try again later, or name a mirror (--registry-mirrors)",
            )
        return Progress(sum(one["offset"] for one in statuses), sum(one["total"] for one in statuses))

    async def _unpacking(self) -> list[str]:
        parts = [part async for part in self._cri.follow(_SNAPSHOTS, _UNPACKING, (_LIST, _LISTED))]
        return sorted(one["name"] for part in parts for one in part["info"])
