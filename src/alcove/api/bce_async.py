"""What becomes of asynchronous invocations, as CFC's configuration of a function says it: ``AsyncInvokeConfig``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.api.body import field
from alcove.api.context import Call
from alcove.errors import InvalidRequest
from alcove.events.invoke_configs import InvokeConfig
from alcove.store.invoke_configs import InvokeConfigRow

# "Type" of a destination: a function, or a queue in the place of Baidu's Kafka.
_TYPES = ("cfc", "kafka")


def _destination(document: Mapping[str, Any], name: str) -> str | None:
    found = field(document, name, dict)
    if found is None:
        return None
    kind = field(found, "Type", str) or "cfc"
    if kind not in _TYPES:
        raise InvalidRequest(f"'{name}.Type' must be one of {', '.join(_TYPES)}.")
    return field(found, "Destination", str) or ""


async def read_async_config(call: Call, document: Mapping[str, Any]) -> InvokeConfig | None:
    """Return what the document asks for, None where it says nothing. Raises ``InvalidRequest``, ``NotFound``."""
    found = field(document, "AsyncInvokeConfig", dict)
    if found is None:
        return None
    config = InvokeConfig(
        retries=field(found, "MaxRetryAttempts", int),
        max_age_s=field(found, "MaxRetryIntervalInSeconds", int),
        on_success=_destination(found, "OnSuccess"),
        on_failure=_destination(found, "OnFailure"),
    )
    await call.faces.services.invoke_configs.check(call.tenant, config)
    return config


def _shown(target: str) -> dict[str, str] | None:
    kind = "kafka" if target.startswith("arn:aws:sqs:") else "cfc"
    return {"Type": kind, "Destination": target} if target else None


def show_async_config(row: InvokeConfigRow) -> dict[str, Any]:
    return {
        "MaxRetryIntervalInSeconds": row.max_age_s,
        "MaxRetryAttempts": row.retries,
        "OnSuccess": _shown(row.on_success),
        "OnFailure": _shown(row.on_failure),
    }
