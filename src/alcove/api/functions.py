"""What both clouds' APIs ask of functions: their fields are read here, each dialect names what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.api.body import beside, change, field, read_object, text_map
from alcove.api.code_source import package_of
from alcove.api.context import Call
from alcove.api.policies import policy_tags, put_policies
from alcove.api.unoffered import refuse_unoffered
from alcove.errors import InvalidRequest
from alcove.functions.model import FunctionVersion


async def read(call: Call) -> dict[str, Any]:
    """Return the body of a request that may carry a package."""
    return await beside(read_object, call.request)


async def create(call: Call, document: Mapping[str, Any], own_tags: Mapping[str, str] | None = None) -> FunctionVersion:
    """AWS's clients say ``Publish`` of the function, Baidu's of its code. ``own_tags`` stand for a dialect's fields."""
    name = field(document, "FunctionName", str)
    if not name:
        raise InvalidRequest("'FunctionName' is required.")
    if field(document, "PackageType", str) not in (None, "Zip"):
        raise InvalidRequest("PackageType must be Zip.")
    refuse_unoffered(document)
    code = field(document, "Code", dict) or {}
    tags = (text_map(document, "Tags") or {}) | policy_tags(document, operator=call.operator) | dict(own_tags or {})
    config = change(document, tags, operator=call.operator)
    if config.runtime is None:
        raise InvalidRequest("'Runtime' is required.")
    await call.check_dead_letter(config)
    async with package_of(call, code) as package:
        return await call.faces.service.create(
            call.tenant,
            call.reference(name).name,
            package,
            config,
            tags=tags,
            publish=bool(field(document, "Publish", bool) or field(code, "Publish", bool)),
            dry_run=bool(field(code, "DryRun", bool)),
        )


async def update_code(call: Call, name: str) -> FunctionVersion:
    document = await beside(read_object, call.request)
    async with package_of(call, document) as package:
        return await call.faces.service.update_code(
            call.tenant,
            call.reference(name).name,
            package,
            publish=bool(field(document, "Publish", bool)),
            dry_run=bool(field(document, "DryRun", bool)),
            revision_id=field(document, "RevisionId", str),
        )


async def update_configuration(call: Call, name: str, document: Mapping[str, Any]) -> FunctionVersion:
    refuse_unoffered(document)
    await put_policies(call, name, document)
    config = change(document, operator=call.operator)
    await call.check_dead_letter(config)
    return await call.faces.service.update_configuration(
        call.tenant, call.reference(name).name, config, revision_id=field(document, "RevisionId", str)
    )


async def publish(call: Call, name: str) -> FunctionVersion:
    """The Python SDK of Baidu sends the description in the query, the others in the body."""
    document = read_object(call.request)
    return await call.faces.service.publish(
        call.tenant,
        call.reference(name).name,
        description=field(document, "Description", str) or call.request.query.get("Description"),
        code_sha256=field(document, "CodeSha256", str) or None,
        revision_id=field(document, "RevisionId", str) or None,
    )
