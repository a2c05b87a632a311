"""The face of the object store: S3's REST API on a listener of its own, as stock clients speak it.

Which operation a request is follows from its method, from whether it names a bucket and a key, and from a word in its
query. A bucket belongs to a tenant and its name is that tenant's alone: who signs decides whose buckets are meant, so
no tenant can see or guess another's. On the UNIX socket the peer is the operator, who signs nothing and acts for the
tenant in ``X-Alcove-Tenant``.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable

from alcove.api import (
    s3_address,
    s3_attributes,
    s3_audit,
    s3_auth,
    s3_buckets,
    s3_errors,
    s3_foreign,
    s3_form,
    s3_notifications,
    s3_objects,
    s3_uploads,
)
from alcove.api.s3_address import Address
from alcove.api.s3_auth import Signature
from alcove.api.s3_call import S3Call
from alcove.api.signers import Signers
from alcove.buckets.errors import MethodNotAllowed, NotImplementedHere
from alcove.errors import AlcoveError
from alcove.gateway.message import Request, Response
from alcove.gateway.streaming import StreamRequest
from alcove.sandbox.protocol import TenantId
from alcove.services import Services

log = logging.getLogger(__name__)

Act = Callable[[S3Call], Awaitable[Response]]
# (method, names a bucket, names a key, word of the query): what is done. The first word that a request has counts.
_ACTS: dict[tuple[str, bool, bool, str], Act] = {
    ("GET", False, False, ""): s3_buckets.list_buckets,
    ("PUT", True, False, ""): s3_buckets.create_bucket,
    ("HEAD", True, False, ""): s3_buckets.head_bucket,
    ("DELETE", True, False, ""): s3_buckets.delete_bucket,
    ("GET", True, False, ""): s3_buckets.list_objects,
    ("GET", True, False, "list-type"): s3_buckets.list_objects_v2,
    ("GET", True, False, "location"): s3_buckets.get_location,
    ("GET", True, False, "uploads"): s3_uploads.list_uploads,
    ("GET", True, False, "notification"): s3_notifications.get_notification,
    ("GET", True, False, "versioning"): s3_buckets.get_versioning,
    ("PUT", True, False, "notification"): s3_notifications.put_notification,
    ("POST", True, False, "delete"): s3_buckets.delete_objects,
    ("PUT", True, True, ""): s3_objects.put_object,
    ("PUT", True, True, "copy"): s3_objects.copy_object,
    ("GET", True, True, ""): s3_objects.get_object,
    ("GET", True, True, "attributes"): s3_attributes.get_attributes,
    ("GET", True, True, "tagging"): s3_attributes.get_tagging,
    ("HEAD", True, True, ""): s3_objects.head_object,
    ("DELETE", True, True, ""): s3_objects.delete_object,
    ("POST", True, True, "uploads"): s3_uploads.create,
    ("PUT", True, True, "uploadId"): s3_uploads.put_part,
    ("PUT", True, True, "uploadId copy"): s3_uploads.copy_part,
    ("POST", True, True, "uploadId"): s3_uploads.complete,
    ("DELETE", True, True, "uploadId"): s3_uploads.abort,
    ("GET", True, True, "uploadId"): s3_uploads.list_parts,
}
_WORDS = (
    *("list-type", "location", "uploads", "notification", "delete", "uploadId", "attributes", "tagging"),
    "versioning",
)


class S3App:
    """``handle`` answers every request; ``refusal`` goes to the server beside it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def refusal(self, request: Request, status: int, message: str) -> Response:
        return s3_errors.refuse(status, message, uuid.uuid4().hex)

    async def handle(self, request: Request) -> Response:
        assert isinstance(request, StreamRequest)
        request_id = uuid.uuid4().hex[:16].upper()
        try:
            address = s3_address.parse(request.headers, request.raw_path)
            if s3_form.is_upload(request, address):
                response = await s3_form.post_object(self._services, request, address, request_id)
                response.headers["x-amz-request-id"] = request_id
                return response
            signature, tenant = await self._authenticate(request, address)
            act = _find(request, address)
            s3_foreign.check_owner(request.headers, tenant)
            services = self._services
            call = S3Call(
                service=services.buckets,
                functions=services.functions,
                may=services.permissions.may,
                request=request,
                request_id=request_id,
                tenant=tenant,
                address=address,
                signature=signature,
            )
            response = await s3_audit.perform(services.audit, call, act)
        except AlcoveError as error:
            return s3_errors.answer(error, request.path, request_id)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, request.method, request.path)
            return s3_errors.break_down(request_id)
        response.headers["x-amz-request-id"] = request_id
        return response

    async def _authenticate(self, request: StreamRequest, address: Address) -> tuple[Signature, TenantId]:
        tenants = self._services.tenants
        if request.peer.is_operator:
            named = request.headers.get("x-alcove-tenant")
            return Signature(), (tenants.find(named) if named else tenants.default).id
        signers = await Signers.of(self._services, request.headers, request.raw_query)
        signature = s3_auth.verify(request, address, signers.secret_of)
        return signature, signers.tenant_of(signature.access_key)


def _find(request: StreamRequest, address: Address) -> Act:
    """Raises ``NotImplementedHere``, ``MethodNotAllowed``."""
    s3_foreign.check(request.query, request.headers)
    word = next((word for word in _WORDS if word in request.query), "")
    if "x-amz-copy-source" in request.headers and request.method == "PUT":
        word = f"{word} copy".strip()
    act = _ACTS.get((request.method, bool(address.bucket), bool(address.key), word))
    if act is None:
        if word in ("tagging", "versioning"):
            raise NotImplementedHere(f"A query parameter you provided implies functionality not implemented: {word}")
        raise MethodNotAllowed("The specified method is not allowed against this resource.")
    return act
