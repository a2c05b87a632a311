"""A function's tags: some of them decide where, and on which kernel, its versions run."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from alcove.functions import limits
from alcove.functions.isolation import POLICY_TAGS
from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.moves import Moved, reconsider
from alcove.functions.records import Records, find_function, to_row
from alcove.sandbox.protocol import TenantId
from alcove.store import functions as rows

Edit = Callable[[dict[str, str]], None]


@dataclass(frozen=True, slots=True)
class Retagged:
    """Versions that run elsewhere now; ``rebuilt`` is ``$LATEST`` as it was, where it has another kernel now."""

    moved: list[Moved]
    rebuilt: FunctionVersion | None = None


def retag(connection: sqlite3.Connection, records: Records, tenant: TenantId, name: str, edit: Edit) -> Retagged:
    """Let ``edit`` change the tags, and decide anew on the versions where that matters. Raises ``InvalidRequest``."""
    function = find_function(connection, tenant, name)
    tags = dict(function.tags)
    edit(tags)
    rows.set_tags(connection, function.id, limits.check_tags(tags))
    rebuilt = None
    if any(tags.get(tag) != function.tags.get(tag) for tag in POLICY_TAGS):
        rebuilt = _judge(connection, records, tenant, name)
    return Retagged(reconsider(connection, records, function_id=function.id), rebuilt)


def _judge(connection: sqlite3.Connection, records: Records, tenant: TenantId, name: str) -> FunctionVersion | None:
    latest = records.find(connection, find_function(connection, tenant, name), LATEST)
    judged = records.settings.policy.judge(connection, latest, new_wish=True)
    if judged.kernel == latest.kernel:
        return None
    rows.put_version(connection, to_row(replace(judged, revision_id=str(uuid.uuid4()))))
    return latest
