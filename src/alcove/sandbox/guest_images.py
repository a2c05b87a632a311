"""The guest images of one engine: the base from its start, another family's when a runtime of it is first needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from alcove.host.locks import KeyedLock
from alcove.host.threads import to_the_end
from alcove.images.families import Family
from alcove.images.guest import GuestImage, build_guest_image, find_guest_image, remove_other_images
from alcove.sandbox.protocol import Runtime

log = logging.getLogger(__name__)


class GuestImages:
    """``base`` is built already."""

    def __init__(self, folder: Path, base: GuestImage) -> None:
        self.base = base
        self._folder = folder
        self._found = {Family.BASE: base}
        self._locks = KeyedLock()

    def find(self, runtime: Runtime) -> GuestImage | None:
        """Return the image that holds the runtime, None where it is not built."""
        return self.find_family(runtime.family)

    def find_family(self, family: Family) -> GuestImage | None:
        if family not in self._found and (found := find_guest_image(self._folder, family)):
            self._found[family] = found
        return self._found.get(family)

    def digest(self, runtime: Runtime) -> str:
        """Return the image's digest; a name that no image has where it is not built."""
        return self.family_digest(runtime.family)

    def family_digest(self, family: Family) -> str:
        found = self.find_family(family)
        return f"no {family} image" if found is None else found.digest

    async def get(self, runtime: Runtime, progress: Callable[[str], None] = log.info) -> GuestImage:
        """Return the image, built where it is missing, which takes minutes. Raises ``HostError``."""
        return await self.get_family(runtime.family, progress)

    async def get_family(self, family: Family, progress: Callable[[str], None] = log.info) -> GuestImage:
        if family in self._found:
            return self._found[family]
        async with self._locks.held(family):
            found = await asyncio.to_thread(self.find_family, family)
            if found is None:
                found = await to_the_end(lambda: build_guest_image(self._folder, family, progress=progress))
                self._found[family] = found
            return found

    def remove_others(self) -> None:
        """Remove the images of other versions."""
        for image in self._found.values():
            remove_other_images(image)
