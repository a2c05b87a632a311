"""Publishing: ``$LATEST`` becomes a numbered version that never changes."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import replace

from alcove.errors import InvalidRequest
from alcove.functions.limits import check_description
from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.records import (
    Records,
    check_revision,
    find_function,
    same_configuration,
    to_row,
)
from alcove.sandbox.protocol import TenantId
from alcove.store import functions as rows


def publish_latest(
    connection: sqlite3.Connection,
    records: Records,
    tenant: TenantId,
    name: str,
    description: str | None,
    code_sha256: str | None,
    revision_id: str | None,
) -> FunctionVersion:
    """Return the published version; runs inside ``Database.write``.

    Nothing new is made where nothing changed since the last version.
    """
    if description is not None:
        check_description(description)
    function = find_function(connection, tenant, name)
    latest = records.find(connection, function, LATEST)
    check_revision(latest, revision_id)
    if code_sha256 is not None and code_sha256 != latest.code_sha256:
        raise InvalidRequest(
            f"CodeSHA256 ({code_sha256}) is different from current CodeSHA256 in $LATEST "
            f"({latest.code_sha256}). Please try again with the CodeSHA256 in $LATEST."
        )
    if function.next_version > 1:
        last = rows.find_version(connection, function.id, str(function.next_version - 1))
        if last is not None and same_configuration(records.from_row(function, last), latest):
            return records.from_row(function, last)
    published = replace(
        latest,
        version=str(function.next_version),
        revision_id=str(uuid.uuid4()),
        description=latest.description if description is None else description,
    )
    published = records.settings.policy.judge(connection, published, new_wish=False)
    rows.put_version(connection, to_row(published))
    rows.set_next_version(connection, function.id, function.next_version + 1)
    return published
