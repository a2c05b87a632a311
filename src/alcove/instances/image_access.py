"""Who may use an image that is here: images are kept once for all tenants, but not every tenant may have each.

What was ever asked for with a tenant's own credentials is a private repository, from before the first byte is fetched.
Another tenant's pods use its images only after the registry has let that tenant have them too, which a fetch asks for;
the answer holds for a day. By an image's id a tenant gets what it may have under all of the image's names.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from alcove.errors import QuotaExceeded
from alcove.host.clock import now_ms
from alcove.instances.cri import Cri
from alcove.instances.fetching import Progress, fetch
from alcove.instances.pull_secrets import PullSecret, auth_of
from alcove.instances.registry import repository_of
from alcove.instances.runtime import Runtime
from alcove.store import private_repositories as rows
from alcove.store.database import Database

GRANT_MS = 24 * 3_600_000
# Of one tenant. Rows of it stay, so they must not become too many.
REPOSITORIES_LIMIT = 1000


class ImageAccess:
    def __init__(self, database: Database, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime
        # Of images that are being fetched for pods.
        self.progress: dict[str, Progress] = {}

    async def usable(self, cri: Cri, tenant: str, image: str) -> bool:
        """Tell whether the image is here and the tenant may have it without asking its registry."""
        found = await cri.image(image)
        if found is None:
            return False
        asked = _repositories(found, image)
        return await self._database.read(lambda c: bool(asked) and all(_may(c, one, tenant) for one in asked))

    async def pull(self, cri: Cri, tenant: str, image: str, secrets: Sequence[PullSecret]) -> str:
        """Fetch an image by the tenant's credentials, or else by the operator's; return its id."""
        repository, own = repository_of(image), auth_of(secrets, image)
        if own is not None:
            await self._database.write(lambda c: _close(c, repository, tenant))
        auth = own or await asyncio.to_thread(self._runtime.auth, image)
        id = await self._fetch(cri, image, auth)
        await self._database.write(lambda c: _grant(c, repository, tenant))
        return id

    async def _fetch(self, cri: Cri, image: str, auth: dict[str, Any] | None) -> str:
        id = ""
        try:
            async with aclosing(fetch(cri, image, auth, stall_s=self._runtime.stall_s)) as telling:
                async for told in telling:
                    if isinstance(told, Progress):
                        self.progress[image] = told
                    else:
                        id = told
        finally:
            self.progress.pop(image, None)
        return id


def _repositories(found: dict[str, Any], image: str) -> set[str]:
    """Return the repository that the name leads to, or all that the image is of where it is an id."""
    own = {repository_of(name) for name in (*found["repo_tags"], *found["repo_digests"])}
    return own & {repository_of(image)} or own


def _may(connection: sqlite3.Connection, repository: str, tenant: str) -> bool:
    if not rows.is_private(connection, repository):
        return True
    return rows.granted_ms(connection, repository, tenant) > now_ms() - GRANT_MS


def _close(connection: sqlite3.Connection, repository: str, tenant: str) -> None:
    if rows.count(connection, tenant) >= REPOSITORIES_LIMIT and not rows.is_private(connection, repository):
        raise QuotaExceeded(
            f"A tenant may use credentials for at most {REPOSITORIES_LIMIT} repositories.", code="repositories"
        )
    rows.put(connection, repository, tenant, 0)


def _grant(connection: sqlite3.Connection, repository: str, tenant: str) -> None:
    """Of a repository that is not private nothing is written."""
    if rows.is_private(connection, repository):
        rows.put(connection, repository, tenant, now_ms())
