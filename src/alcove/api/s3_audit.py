"""The audit's lines of changes to buckets themselves: made, deleted, whom they call. Objects are data and have none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from alcove.api import s3_buckets, s3_notifications
from alcove.api.s3_call import S3Call
from alcove.audit.line import DONE, UNKNOWN, AuditLine
from alcove.audit.log import AuditLog
from alcove.buckets.errors import BucketError
from alcove.errors import AlcoveError
from alcove.gateway.message import Response
from alcove.host.clock import now_ms

Act = Callable[[S3Call], Awaitable[Response]]
AUDITED: frozenset[Act] = frozenset(
    (s3_buckets.create_bucket, s3_buckets.delete_bucket, s3_notifications.put_notification)
)


async def perform(audit: AuditLog, call: S3Call, act: Act) -> Response:
    """Do it, with its line in the audit however it ends."""
    if act not in AUDITED:
        return await act(call)
    line = _begun(call, act)
    note = await audit.begin(line, insist=act is not s3_buckets.delete_bucket)
    line = replace(line, outcome=UNKNOWN)
    try:
        response = await act(call)
        line = replace(line, outcome=DONE)
        return response
    except AlcoveError as error:
        line = replace(line, outcome=error.code if isinstance(error, BucketError) else type(error).__name__)
        raise
    except Exception:
        line = replace(line, outcome="failed")
        raise
    finally:
        audit.end(line, note)


def _begun(call: S3Call, act: Act) -> AuditLine:
    peer = call.request.peer
    return AuditLine(
        time_ms=now_ms(),
        request_id=call.request_id,
        scope=call.tenant,
        by="operator" if peer.is_operator else "tenant",
        key=call.signature.access_key,
        address=f"uid={peer.uid} pid={peer.pid}" if peer.is_operator else peer.address,
        operation=f"s3.{getattr(act, '__name__', '')}",
        resource=f"bucket={call.bucket[:400]}",
    )
