"""Notifications from before permission was asked for: their functions' policies let the buckets in, once.

The migration notes which buckets had notifications; the first start after it grants what they lack and crosses them
out. Killed in between, the next start goes on: what is granted already is not granted again, and a statement that its
owner removes later stays removed.
"""

from __future__ import annotations

import logging
from functools import partial

from alcove.buckets import rules
from alcove.buckets.permission import SERVICE, caller, source_arn
from alcove.buckets.rules import Rule
from alcove.errors import RequestError
from alcove.functions.model import LATEST
from alcove.functions.permissions import INVOKE, PermissionService
from alcove.functions.statements import Statement
from alcove.sandbox.protocol import TenantId
from alcove.store import buckets as rows
from alcove.store.database import Database

log = logging.getLogger(__name__)


async def grant_earlier(database: Database, permissions: PermissionService) -> None:
    """Before the first change is told of: grant what notifications from before need. Raises what the state file
    does.
    """
    for row in await database.read(rows.list_ungranted):
        tenant = TenantId(row.tenant_id)
        for rule in rules.load(row.notification):
            await _grant(permissions, tenant, row.name, rule)
        await database.write(partial(rows.delete_ungranted, bucket_id=row.id))


async def _grant(permissions: PermissionService, tenant: TenantId, bucket: str, rule: Rule) -> None:
    qualifier = "" if rule.qualifier == LATEST else rule.qualifier
    arn = source_arn(bucket)
    if await permissions.may(tenant, rule.function, qualifier, caller(arn, tenant)):
        return
    # The id that ``alcove bucket notify`` gives, so that its --remove takes this away too.
    statement_id = f"s3-{bucket.replace('.', '_')}"
    statement = Statement(statement_id, SERVICE, INVOKE, {"source_arn": arn, "source_account": tenant})
    try:
        await permissions.add(tenant, rule.function, qualifier, statement)
    except RequestError as error:
        # The function, or the alias, is gone; or its policy is full, or has another statement of that id.
        log.warning("%s cannot be let in by %s: %s", arn, rule.function, error)
    else:
        log.info("%s may call %s: its notification is from before permission was asked for", arn, rule.function)
