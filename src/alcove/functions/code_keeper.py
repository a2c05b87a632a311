"""Builds the code of versions, and removes what no version refers to any more.

To look costs by what has gone, not by all that there is. Code that an update has replaced stays for a while: calls that
were accepted before may still start with it.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alcove.functions.model import FunctionVersion
from alcove.images.code import BuiltCode, CodeStore, CodeUse
from alcove.sandbox.protocol import Runtime
from alcove.store import code as rows
from alcove.store.database import Database

REPLACED_S = 60.0


class CodeKeeper:
    """The store of code, as the control plane uses it."""

    def __init__(self, database: Database, store: CodeStore) -> None:
        self.store = store
        self._database = database
        self._replaced: deque[tuple[float, CodeUse]] = deque()

    async def recover(self) -> None:
        """At start: remove unfinished builds, and code that nothing refers to."""
        self.store.recover()
        await self.store.collect(*await self._database.read(rows.code_in_use))

    @asynccontextmanager
    async def built(self, package: bytes, function: FunctionVersion, *, keep: bool = True) -> AsyncIterator[BuiltCode]:
        """Build code for the version, with its layers, for the block, which writes it into a version; where that
        fails, or is not meant (``keep`` False), the code goes again.
        """
        layers = tuple(layer.package_sha256 for layer in function.layers)
        unwritten: list[CodeUse] = []
        try:
            with self.store.pinned(package, layers):
                built = await self.store.build(package, python=function.runtime is Runtime.PYTHON, layers=layers)
                unwritten.append(CodeUse(built.package_sha256, built.digest, layers))
                yield built
                if keep:
                    unwritten.clear()
        finally:
            await self.collect(*unwritten)

    def replaced(self, version: FunctionVersion) -> None:
        """Note that an update has taken this code's place."""
        self._replaced.append((time.monotonic(), code_of(version)))

    async def collect(self, *gone: CodeUse) -> None:
        """Remove those of ``gone``, and of what was replaced long enough ago, that nothing refers to."""
        horizon = time.monotonic() - REPLACED_S
        candidates = set(gone)
        while self._replaced and self._replaced[0][0] <= horizon:
            candidates.add(self._replaced.popleft()[1])
        # What was replaced a moment ago is looked at when it is old enough.
        candidates -= {use for _, use in self._replaced}
        if not candidates:
            return

        def query(connection: sqlite3.Connection) -> tuple[set[str], set[str]]:
            packages = {use.package_sha256 for use in candidates}.union(*(use.layers for use in candidates))
            images = {use.image_digest for use in candidates if use.image_digest}
            return rows.unused_packages(connection, packages), rows.unused_images(connection, images)

        with self.store.watched() as taken:
            packages, images = await self._database.read(query)
            await self.store.discard(candidates, packages, images, taken)


def code_of(version: FunctionVersion) -> CodeUse:
    layers = tuple(layer.package_sha256 for layer in version.layers)
    return CodeUse(version.package_sha256, version.code.digest, layers)
