"""How a function's sandboxes are used: its own policies, which the clouds' APIs lack.

They are tags of the function (``alcove:fresh-vm``, ``alcove:concurrency``, ``alcove:kernel``), so that stock clients
can set them; the operator may send them as fields of a configuration too, which become the tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.api.body import field
from alcove.api.context import Call
from alcove.functions.isolation import KERNEL_TAG
from alcove.functions.model import CONCURRENCY_TAG, FRESH_VM_TAG


def policy_tags(document: Mapping[str, Any], *, operator: bool) -> dict[str, str]:
    """Return the tags that the document's fields stand for."""
    if not operator:
        return {}
    fresh, calls = field(document, "FreshVm", bool), field(document, "InstanceConcurrency", int)
    kernel = field(document, "Kernel", str)
    tags = {} if fresh is None else {FRESH_VM_TAG: str(fresh).lower()}
    tags |= {} if calls is None else {CONCURRENCY_TAG: str(calls)}
    return tags if kernel is None else tags | {KERNEL_TAG: kernel}


async def put_policies(call: Call, name: str, document: Mapping[str, Any]) -> None:
    """Set the tags that the document's fields stand for, if any."""
    tags = policy_tags(document, operator=call.operator)
    if tags:
        await call.faces.service.set_tags(call.tenant, call.reference(name).name, lambda old: old.update(tags))
