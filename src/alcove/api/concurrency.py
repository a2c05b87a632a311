"""What both clouds' APIs ask of reserved concurrency, which they name alike."""

from __future__ import annotations

from alcove.api.body import field, read_object
from alcove.api.context import Call
from alcove.errors import InvalidRequest

_FIELD = "ReservedConcurrentExecutions"


def asked(call: Call, name: str) -> int:
    """Return the number of calls that the body gives as ``name``."""
    calls = field(read_object(call.request), name, int)
    if calls is None:
        raise InvalidRequest(f"'{name}' is required.")
    return calls


async def reserve(call: Call, name: str) -> dict[str, int]:
    calls = asked(call, _FIELD)
    await call.faces.services.concurrency.reserve(call.tenant, call.reference(name).name, calls)
    return {_FIELD: calls}


async def reserved(call: Call, name: str) -> dict[str, int]:
    calls = await call.faces.services.concurrency.reserved(call.tenant, call.reference(name).name)
    return {} if calls is None else {_FIELD: calls}


async def unreserve(call: Call, name: str) -> None:
    await call.faces.services.concurrency.reserve(call.tenant, call.reference(name).name, None)
