"""Layers as a function's configuration names them: read, looked up, and noted with the function."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from alcove.errors import InvalidRequest
from alcove.functions.brn import account_from_brn
from alcove.functions.model import Layer
from alcove.functions.statements import Caller, Statement
from alcove.sandbox.protocol import TenantId
from alcove.store import layers as rows

USE = "lambda:GetLayerVersion"
# CreateFunction in the AWS Lambda API reference.
LAYERS_OF_ONE = 5
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,140}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class LayerName:
    """A layer as a request names it; ``version`` is 0 where it is left out."""

    account: str
    name: str
    version: int = 0


def check_layer_name(name: str) -> str:
    """Return a valid layer name. Raises ``InvalidRequest``."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"Layer name {name[:80]!r} must have 1 to 140 letters, digits, hyphens or underscores.")
    return name


def parse_layer(text: str, tenant: TenantId, version: str = "") -> LayerName:
    """Read a layer's name, ARN or BRN, and a version beside it. Raises ``InvalidRequest``."""
    parts = text.split(":")
    if parts[0] in ("arn", "brn") and len(parts) == 7 and parts[5] == "layer":
        account, name = account_from_brn(parts[4]), parts[6]
    else:
        account, name = tenant, text
    return LayerName(account, check_layer_name(name), _number(version) if version else 0)


def parse_layer_version(text: str) -> LayerName:
    """Read the ARN or BRN of a layer version. Raises ``InvalidRequest``."""
    parts = text.split(":")
    if parts[0] not in ("arn", "brn") or len(parts) != 8 or parts[5] != "layer":
        raise InvalidRequest(
            f"{text[:200]!r} is not the ARN of a layer version.", hint="such as arn:aws:lambda:...:layer:name:1"
        )
    return LayerName(account_from_brn(parts[4]), check_layer_name(parts[6]), _number(parts[7]))


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"Layer version {text[:40]!r} must be a number from 1 on.")
    return int(text)


def layer_arn(region: str, layer: rows.LayerRow) -> str:
    return f"arn:aws:lambda:{region}:{layer.tenant_id}:layer:{layer.name}"


def statements_of(connection: sqlite3.Connection, row: rows.LayerVersionRow) -> list[Statement]:
    found = rows.list_permissions(connection, row.layer.id, row.version)
    return [Statement(one.statement_id, one.principal, one.action) for one in found]


def find_usable(connection: sqlite3.Connection, tenant: TenantId, name: LayerName) -> rows.LayerVersionRow | None:
    """Return the layer version if it is the tenant's, or its owner lets the tenant use it."""
    row = rows.find_version(connection, name.account, name.name, name.version)
    if row is None or name.account == tenant:
        return row
    caller = Caller(tenant, USE)
    return row if any(one.allows(caller) for one in statements_of(connection, row)) else None


def use_layers(
    connection: sqlite3.Connection, region: str, tenant: TenantId, arns: Sequence[str], kept: Sequence[Layer]
) -> tuple[Layer, ...]:
    """Return what a function of the tenant notes of these layer versions.

    Those that it has already (``kept``) it may keep, even where they are deleted or no longer shared. Raises
    ``InvalidRequest``, which says the same of what does not exist and of what is not shared.
    """
    if len(arns) > LAYERS_OF_ONE:
        raise InvalidRequest(f"Cannot reference more than {LAYERS_OF_ONE} layers.")
    names = [parse_layer_version(arn) for arn in arns]
    if len({(name.account, name.name) for name in names}) < len(names):
        raise InvalidRequest(
            "Two different versions of the same layer are not allowed to be referenced in the same function."
        )
    known = {parse_layer_version(layer.arn): layer for layer in kept}
    return tuple(known.get(name) or _use(connection, region, tenant, name) for name in names)


def _use(connection: sqlite3.Connection, region: str, tenant: TenantId, name: LayerName) -> Layer:
    row = find_usable(connection, tenant, name)
    if row is None:
        arn = f"arn:aws:lambda:{region}:{name.account}:layer:{name.name}:{name.version}"
        raise InvalidRequest(f"Layer version {arn[:300]} does not exist.", hint="see: alcove layer list")
    return Layer(f"{layer_arn(region, row.layer)}:{row.version}", row.package_sha256, row.package_bytes)


def layers_to_text(layers: Sequence[Layer]) -> str:
    """As the store keeps them."""
    return json.dumps([[layer.arn, layer.package_sha256, layer.package_bytes] for layer in layers])


def layers_from_text(text: str) -> tuple[Layer, ...]:
    return () if text == "[]" else tuple(Layer(*one) for one in json.loads(text))
