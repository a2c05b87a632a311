"""Where the code of functions and layers comes from: the request itself, or an object in one of the tenant's buckets.

AWS's clients name the object by ``S3Bucket`` and ``S3Key``, Baidu's by ``BosBucket`` and ``BosObject``. A small request
can so ask for a large package; what is read is bounded as bodies are, for all together and for each tenant.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from alcove.api.body import beside, field
from alcove.buckets.errors import NoSuchBucket, NoSuchKey
from alcove.buckets.service import BucketService
from alcove.errors import InvalidRequest, ThrottledError, TooLarge
from alcove.images.code_zip import PACKAGE_LIMIT
from alcove.sandbox.protocol import TenantId

if TYPE_CHECKING:
    from alcove.api.context import Call

# The names of bucket and key, in the words of each store.
_PLACES = (("S3Bucket", "S3Key"), ("BosBucket", "BosObject"))
# What a bucket without versions calls the only one of an object (Amazon S3, "versioning-disabled buckets").
ONLY_VERSION = "null"
# Bytes of packages that are read and not yet built: of all tenants, and of one.
ROOM_BYTES = 512 << 20
TENANT_BYTES = 128 << 20


class Place(NamedTuple):
    bucket: str
    key: str


class PackageRoom:
    """Counts the bytes of packages that are held."""

    def __init__(self) -> None:
        self._held: Counter[TenantId] = Counter()

    @contextmanager
    def taken(self, tenant: TenantId, size: int) -> Iterator[None]:
        """Raises ``ThrottledError`` where there is no room now."""
        if self._held.total() + size > ROOM_BYTES or self._held[tenant] + size > TENANT_BYTES:
            raise ThrottledError("Too many packages are being read from buckets.", hint="try again")
        self._held[tenant] += size
        try:
            yield
        finally:
            self._held[tenant] -= size
            if not self._held[tenant]:
                del self._held[tenant]


def place_of(document: Mapping[str, Any]) -> Place | None:
    """Return the object that is named, None where there is none. Empty names, which Go's clients send, name nothing."""
    found = [
        Place(bucket or "", key or "")
        for names in _PLACES
        for bucket, key in [(field(document, names[0], str), field(document, names[1], str))]
        if bucket or key
    ]
    if not found:
        return None
    if len(found) > 1 or not all(found[0]):
        raise InvalidRequest("The code is named by a bucket and a key.", hint="give S3Bucket and S3Key, or the like")
    if (field(document, "S3ObjectVersion", str) or ONLY_VERSION) != ONLY_VERSION:
        raise InvalidRequest("'S3ObjectVersion' names no version.", hint="buckets here have no versions: leave it out")
    return found[0]


@asynccontextmanager
async def package_of(call: Call, document: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Yield the zip that is sent or named. Raises ``InvalidRequest``, ``TooLarge``, ``ThrottledError``."""
    place = place_of(document)
    if place is None:
        yield await beside(_sent, document)
        return
    if document.get("ZipFile"):
        raise InvalidRequest("The code is given twice.", hint="send ZipFile, or name a bucket and a key")
    buckets, tenant = call.faces.services.buckets, call.tenant
    size = await _size(buckets, tenant, place)
    with call.faces.room.taken(tenant, size):
        yield await _read(buckets, tenant, place, size)


async def _size(buckets: BucketService, tenant: TenantId, place: Place) -> int:
    with _refused():
        size = (await buckets.head(tenant, *place)).size
    if size > PACKAGE_LIMIT:
        raise TooLarge(f"The package has {size} bytes; at most {PACKAGE_LIMIT} are allowed.")
    return size


async def _read(buckets: BucketService, tenant: TenantId, place: Place, size: int) -> bytes:
    """``size`` is what there is room for."""
    with _refused():
        async with buckets.open_object(tenant, *place) as opened:
            if opened.object.size > size:
                raise ThrottledError("The package was replaced at the same time.", hint="try again")
            return b"".join([piece async for piece in opened.read(0, opened.object.size)])


@contextmanager
def _refused() -> Iterator[None]:
    """What the store misses is wrong with the request. The words are AWS's."""
    try:
        yield
    except (NoSuchBucket, NoSuchKey) as error:
        raise InvalidRequest(
            f"Error occurred while GetObject. S3 Error Code: {error.code}. S3 Error Message: {error}",
            hint="the object must be in a bucket of your own here",
        ) from error


def _sent(document: Mapping[str, Any]) -> bytes:
    encoded = field(document, "ZipFile", str)
    if encoded is None and document.get("ImageUri") is not None:
        raise InvalidRequest("Code from 'ImageUri' is not supported.", hint="send the zip as ZipFile")
    if encoded is None:
        raise InvalidRequest("'ZipFile' is required.", hint="send the zip, base64-encoded, or name one in a bucket")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("'ZipFile' is not base64.") from None
