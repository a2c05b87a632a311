"""POST Object: a form of a browser's that uploads a file, with a policy and its signature among its fields.

Who signed the policy decides whose bucket is meant; nothing is read of the file before the policy holds. Fields that S3
takes for headers of a PUT are taken so.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from alcove.api import s3_auth, s3_foreign, s3_form_answer
from alcove.api.s3_address import Address
from alcove.api.s3_objects import KEPT, attributes
from alcove.api.signers import Signers
from alcove.buckets import names, post_policy
from alcove.buckets.change import Cause
from alcove.buckets.contents import Arrival, Expected, Late
from alcove.buckets.errors import BadArgument, BadFormError, FieldsTooLarge, MissingLength
from alcove.gateway.form import BadForm, FormReader, FormTooLarge, is_form
from alcove.gateway.message import Response
from alcove.gateway.streaming import StreamRequest
from alcove.sandbox.protocol import TenantId
from alcove.services import Services
from alcove.wire import post_signature

_FILE_NAME = "${filename}"
# Fields that are headers elsewhere: by another name, by their own, by how they begin.
_RENAMED = {"acl": "x-amz-acl", "tagging": "x-amz-tagging"}
_HEADERS = (*KEPT, "content-md5")
_NAME = re.compile(r"x-amz-[!#$%&'*+.^_`|~0-9a-z-]{1,250}")
# The fields of a signature, of which the first missing one is named, as S3 does it.
_SIGNATURES = (
    ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature"),
    ("AWSAccessKeyId", "Signature"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_upload(request: StreamRequest, address: Address) -> bool:
    """Whether it is a form for a bucket, which carries its signature itself."""
    return (
        request.method == "POST"
        and bool(address.bucket)
        and not address.key
        and not request.raw_query
        and "authorization" not in request.headers
        and is_form(request.headers.get("content-type", ""))
    )


@dataclass(frozen=True, slots=True)
class Upload:
    """What is yet to be stored: ``headers`` as a PUT would have them; ``arrival`` as it comes."""

    key: str
    headers: Mapping[str, str]
    fields: Mapping[str, str]
    arrival: Arrival


async def post_object(services: Services, request: StreamRequest, address: Address, request_id: str) -> Response:
    """Raises ``AccessDenied``, and what is wrong with the form, its policy or its file as a ``BucketError``."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise MissingLength("You must provide the Content-Length HTTP header.")
    reader = await _read(request)
    tenant, access_key = await _authenticate(services, reader.form.fields)
    upload = _prepared(reader, address, int(length))
    s3_foreign.check_owner(upload.headers, tenant)
    address = replace(address, key=upload.key)
    cause = Cause(access_key, request_id, request.peer.address)
    made = await services.buckets.put(
        tenant,
        address.bucket,
        address.key,
        upload.arrival,
        attributes(upload.headers),
        cause,
        event="s3:ObjectCreated:Post",
    )
    return s3_form_answer.answer(request.headers.get("host", ""), address, made, upload.fields)


async def _read(request: StreamRequest) -> FormReader:
    """Read the form up to its file. Raises ``FieldsTooLarge``, ``BadFormError``."""
    try:
        reader = FormReader(request.headers["content-type"], request.content)
        await reader.fields()
    except FormTooLarge as error:
        raise FieldsTooLarge(str(error)) from error
    except BadForm as error:
        raise BadFormError(str(error)) from error
    return reader


async def _authenticate(services: Services, fields: Mapping[str, str]) -> tuple[TenantId, str]:
    """Return who signed the policy, and with which key. Raises ``AccessDenied``, ``BadArgument``."""
    _check_signed(fields)
    signers = await Signers.of_key(services, post_signature.access_key(fields))
    access_key = post_signature.verify(fields, signers.secret_of, time.time())
    return signers.tenant_of(access_key), access_key


def _check_signed(fields: Mapping[str, str]) -> None:
    """A signature has all its fields; a form may have none of them, and is refused later. Raises ``BadArgument``."""
    for signature in _SIGNATURES:
        missing = [one for one in signature if one.lower() not in fields]
        if missing and len(missing) < len(signature):
            raise _missing(missing[0])


def _missing(name: str) -> BadArgument:
    return BadArgument(
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields.",
        hint="what comes behind the field 'file' is not read",
    )


def _prepared(reader: FormReader, address: Address, length: int) -> Upload:
    """Hold the form against its policy. Raises ``PolicyViolated``, ``BadPolicy``, ``BadArgument``."""
    form = reader.form
    if "key" not in form.fields:
        raise _missing("key")
    name = form.file_name.replace("\\", "/").rpartition("/")[2]
    # Variables are replaced before the policy is asked ("Condition matching").
    fields = {**form.fields, "key": form.fields["key"].replace(_FILE_NAME, name), "bucket": address.bucket}
    if form.fields.get("bucket", address.bucket) != address.bucket:
        raise BadArgument("The bucket that the form names is not that of the request.")
    policy = post_policy.parse(fields["policy"])
    policy.check(fields, time.time())
    headers = _headers(fields)
    s3_foreign.check({}, headers)
    names.check_key(fields["key"])
    # The rest of the body is the file and what closes the form.
    most = min(max(length - form.read, 0) + reader.held, policy.most)
    md5 = headers.get("content-md5", "")
    said = Expected(most, md5, s3_auth.checksums(headers), least=policy.least, exact=False)
    arrival = Arrival(_content(reader), said, frozenset(), Late())
    s3_auth.check_algorithm(arrival.named, headers.get("x-amz-sdk-checksum-algorithm", "").lower())
    return Upload(fields["key"], headers, fields, arrival)


def _headers(fields: Mapping[str, str]) -> dict[str, str]:
    """Return, of the fields, the headers of a PUT: the bytes of their UTF-8, as a client would send them.

    Raises ``BadArgument``.
    """
    found = {}
    for field, value in fields.items():
        name = _RENAMED.get(field, field)
        if name not in _HEADERS and not name.startswith("x-amz-"):
            continue
        if (name not in _HEADERS and not _NAME.fullmatch(name)) or _CONTROL.search(value):
            raise BadArgument(f"The field {field[:100]!r} cannot be a header.")
        found[name] = value.encode().decode("latin-1").strip()
    return found


async def _content(reader: FormReader) -> AsyncIterator[bytes]:
    try:
        async for data in reader.content():
            yield data
    except BadForm as error:
        raise BadFormError(str(error)) from error
