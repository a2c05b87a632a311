"""Copies of one instance: a group, of which there are as many as were last asked for.

A group is no thing of its own: its instances name it, and each can be seen and deleted by itself. One that is deleted
is not made again; restarts are each instance's own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

from alcove.errors import InvalidRequest
from alcove.instances import manifest
from alcove.instances.intake import REPLICAS_LIMIT, Order
from alcove.instances.pull_secrets import load_secrets
from alcove.instances.service import InstanceService
from alcove.instances.tier import PodTier
from alcove.sandbox.protocol import TenantId
from alcove.store import instance_lists as rows
from alcove.store import pull_secrets
from alcove.store.instances import PodRow

# Of the whole server: two who change a group at once must each see what the other did.
_lock = asyncio.Lock()


async def scale(
    service: InstanceService, tenant: TenantId, name: str, count: int, *, operator: bool
) -> Sequence[PodRow]:
    """Make copies of an instance, or delete some (the newest first), until there are ``count``; return them."""
    if not 0 <= count <= REPLICAS_LIMIT:
        raise InvalidRequest(f"'replicas' must be 0 to {REPLICAS_LIMIT}.")
    async with _lock:
        row = (await service.get(tenant, name)).row
        group = row.group_id or row.uid
        members = await service.database.write(lambda c: _gather(c, row, group))
        if count > len(members):
            await _add(service, row, members, count - len(members), operator=operator)
        elif count < len(members):
            await service.delete_rows(members[count:])
        return await service.database.read(lambda c: rows.list_group(c, tenant, group))


def _gather(connection: sqlite3.Connection, row: PodRow, group: str) -> Sequence[PodRow]:
    if not row.group_id:
        rows.set_group(connection, row.uid, group)
    return rows.list_group(connection, row.tenant_id, group)


async def _add(service: InstanceService, row: PodRow, members: Sequence[PodRow], count: int, *, operator: bool) -> None:
    secrets = load_secrets(await service.database.read(lambda c: pull_secrets.get(c, row.uid)))
    group = row.group_id or row.uid
    order = Order(replicas=count, secrets=tuple(secrets), rename=True, group=group)
    pod = manifest.load((members[0] if members else row).manifest)
    tenant, isolation = TenantId(row.tenant_id), PodTier(row.isolation)
    await service.create_all(tenant, pod, order, operator=operator, isolation=isolation)
