"""What each operation of the object store knows of its request."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alcove.api import s3_auth
from alcove.api.s3_address import Address
from alcove.api.s3_auth import Signature
from alcove.buckets.change import Cause
from alcove.buckets.contents import Arrival, Digests, Expected
from alcove.buckets.errors import BadArgument, EntityTooLarge
from alcove.buckets.permission import May
from alcove.buckets.service import BucketService
from alcove.functions.model import FunctionResolver
from alcove.gateway.streaming import StreamRequest
from alcove.sandbox.protocol import TenantId

# CompleteMultipartUpload with 10,000 parts and their checksums, DeleteObjects with 1,000 keys.
DOCUMENT_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class S3Call:
    service: BucketService
    functions: FunctionResolver
    may: May
    request: StreamRequest
    request_id: str
    tenant: TenantId
    address: Address
    signature: Signature

    @property
    def bucket(self) -> str:
        return self.address.bucket

    @property
    def key(self) -> str:
        return self.address.key

    @property
    def cause(self) -> Cause:
        return Cause(self.signature.access_key or "operator", self.request_id, self.request.peer.address)

    def query(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def header(self, name: str, default: str = "") -> str:
        return self.request.headers.get(name, default)

    def number(self, name: str, default: int, most: int) -> int:
        """A number of the query, at most ``most``. Raises ``BadArgument``."""
        text = self.query(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise BadArgument(f"Provided {name} not an integer or within integer range")
        return min(int(text), most)

    def arrival(self) -> Arrival:
        return s3_auth.arrival(self.request, self.signature)

    async def document(self, *, whole: bool = True) -> bytes:
        """The body of a call that takes XML, checked; not ``whole``: its headers' checksums are of something else.

        Raises ``EntityTooLarge``, ``BadDigest``.
        """
        coming = self.arrival()
        if not whole:
            coming = replace(coming, expected=Expected(coming.expected.size))
        held = bytearray()
        async for data in coming.content:
            held += data
            if len(held) > DOCUMENT_LIMIT:
                raise EntityTooLarge(f"The document is larger than {DOCUMENT_LIMIT >> 20} MiB.")
        digests = Digests(coming.named)
        digests.update(bytes(held))
        digests.compare(coming.expected, coming.announced, coming.late)
        return bytes(held)
