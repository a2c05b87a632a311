"""Images that are here: fetched, listed, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from alcove.errors import InvalidRequest, NotFound
from alcove.instances import pause
from alcove.instances.fetching import Progress, fetch
from alcove.instances.manifest import IMAGE
from alcove.instances.runtime import Runtime


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
        async for part in fetch(cri, name, auth, stall_s=self._runtime.stall_s):
            yield part

    async def disk_bytes(self) -> int:
        """Return what images and containers take on the disk."""
        cri = await self._runtime.cri()
        found = (await cri.call("ImageFsInfo"))["image_filesystems"]
        return sum((one["used_bytes"] or {}).get("value", 0) for one in found)


def _checked(name: str) -> str:
    if not IMAGE.fullmatch(name):
        raise InvalidRequest(f"{name[:200]!r} is no name of an image.")
    return name
