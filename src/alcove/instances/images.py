"""Images that are here: fetched, listed, removed; and how far what is being fetched has come.

CRI says nothing of a fetch before its end; containerd's own content service knows what it writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from alcove.errors import AlcoveError, InvalidRequest, NotFound
from alcove.instances import pause
from alcove.instances.cri import Cri
from alcove.instances.manifest import IMAGE
from alcove.instances.runtime import Runtime
from alcove.wire.protobuf import INT64, STRING, Field, Message

_STATUSES = "/containerd.services.content.v1.Content/ListStatuses"
_REQUEST = Message("ListContentStatusesRequest", Field(1, "filters", STRING, repeated=True))
_STATUS = Message("Status", Field(3, "ref", STRING), Field(4, "offset", INT64), Field(5, "total", INT64))
_ANSWER = Message("ListContentStatusesResponse", Field(1, "statuses", _STATUS, repeated=True))
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of what is being fetched by anyone now; ``done`` of ``total`` as far as that is known."""

    done: int
    total: int


class ImageStore:
    """The runtime's images, as the operator sees them: they are shared by all tenants, by digest."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self) -> list[dict[str, Any]]:
        cri = await self._runtime.cri()
        found = (await cri.call("ListImages"))["images"]
        return [one for one in found if pause.NAME not in one["repo_tags"]]

    async def remove(self, name: str) -> None:
        cri = await self._runtime.cri()
        found = await cri.image(_checked(name))
        if found is None:
            raise NotFound(f"There is no image {name[:200]!r} here.", hint="alcove images lists them")
        if pause.NAME in found["repo_tags"]:
            raise InvalidRequest("This image is part of every pod.")
        await cri.call("RemoveImage", {"image": {"image": found["id"]}})

    async def pull(self, name: str) -> AsyncGenerator[Progress | str, None]:
        """Fetch an image; yield how far it has come, and its id at the end. Raises ``AlcoveError``."""
        cri = await self._runtime.cri()
        auth = await asyncio.to_thread(self._runtime.auth, _checked(name))
        task = asyncio.create_task(cri.pull(name, auth))
        try:
            while not task.done():
                yield await _progress(cri)
                await asyncio.wait((task,), timeout=_LOOK_EVERY_S)
            yield await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def disk_bytes(self) -> int:
        """Return what images and containers take on the disk."""
        cri = await self._runtime.cri()
        found = (await cri.call("ImageFsInfo"))["image_filesystems"]
        return sum((one["used_bytes"] or {}).get("value", 0) for one in found)


async def _progress(cri: Cri) -> Progress:
    try:
        statuses = (await cri.ask(_STATUSES, {}, (_REQUEST, _ANSWER)))["statuses"]
    except AlcoveError:
        return Progress(0, 0)
    return Progress(sum(one["offset"] for one in statuses), sum(one["total"] for one in statuses))


def _checked(name: str) -> str:
    if not IMAGE.fullmatch(name):
        raise InvalidRequest(f"{name[:200]!r} is no name of an image.")
    return name
