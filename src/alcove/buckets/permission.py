"""Whether a bucket may call a function: its policy says so, as on AWS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from alcove.functions.permissions import INVOKE
from alcove.functions.statements import Caller
from alcove.sandbox.protocol import TenantId

SERVICE = "s3.amazonaws.com"
# Of (owner of the function, its name, qualifier, who asks): ``PermissionService.may``.
May = Callable[[TenantId, str, str, Caller], Awaitable[bool]]


def source_arn(bucket: str) -> str:
    return f"arn:aws:s3:::{bucket}"


def caller(source: str, owner: TenantId) -> Caller:
    """Return the object store, on behalf of the bucket of that ARN and owner."""
    return Caller(SERVICE, INVOKE, {"source_arn": source, "source_account": owner})
