"""``aws-chunked`` bodies, the server's side: chunks with or without signatures, then trailers.

Source: "Signature calculations for the Authorization header: transferring payload in multiple chunks" and "... with
trailing headers" in the Amazon S3 API reference. A body is ``SIZE[;chunk-signature=HEX]`` CRLF data CRLF, a chunk of
size 0, trailers, an empty line. Data is handed on as it comes, before its signature can be checked: whoever takes it
keeps nothing unless ``close`` returns. Pure: no I/O.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from alcove.errors import AccessDenied, InvalidRequest
from alcove.wire.sigv4_claim import HEX_SHA256

# Of a line that is no data: a size with a signature, or a trailer.
LINE_LIMIT = 1024
TRAILER_LIMIT = 8
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_HEAD = re.compile(rb"([0-9a-fA-F]{1,10})(?:;chunk-signature=([0-9a-f]{64}))?")


@dataclass(slots=True)
class ChunkSigner:
    """The chain of signatures: each chunk's covers the one before, the first the request's own."""

    key: bytes
    date: str
    scope: str
    previous: str

    def check_chunk(self, sha256: str, signature: str) -> None:
        self._check(("AWS4-HMAC-SHA256-PAYLOAD", _EMPTY_SHA256, sha256), signature)

    def check_trailers(self, trailers: bytes, signature: str) -> None:
        self._check(("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(trailers).hexdigest()), signature)

    def _check(self, parts: tuple[str, ...], signature: str) -> None:
        to_sign = "\n".join((parts[0], self.date, self.scope, self.previous, *parts[1:]))
        expected = hmac.digest(self.key, to_sign.encode(), "sha256").hex()
        if not hmac.compare_digest(expected, signature):
            raise AccessDenied("A chunk's signature does not match its content.", code="signature")
        self.previous = signature


@dataclass(slots=True)
class AwsChunkedDecoder:
    """``feed`` yields data; ``close``, at the body's end, returns the trailers. Both raise ``InvalidRequest`` for what
    is not in the form, and ``AccessDenied`` where a signature does not match. ``signer`` None: chunks are not signed.
    """

    signer: ChunkSigner | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    _state: str = "head"
    _left: int = 0
    _signature: str = ""
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    _trailers: dict[str, str] = field(default_factory=dict)
    _trailer_signature: str = ""

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while self._buffer:
            if self._state == "data":
                yield self._take_data()
                continue
            line = self._take_line()
            if line is None:
                return
            self._act(line)

    def close(self) -> dict[str, str]:
        if self._state != "end":
            raise InvalidRequest("The body ended within a chunk.")
        return self._trailers

    def _take_data(self) -> bytes:
        taken = bytes(self._buffer[: self._left])
        del self._buffer[: self._left]
        self._left -= len(taken)
        if self.signer is not None:
            self._hash.update(taken)
        if not self._left:
            self._state = "after"
        return taken

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, LINE_LIMIT)
        if end < 0:
            if len(self._buffer) >= LINE_LIMIT:
                raise InvalidRequest("The body is not aws-chunked: a line is too long.")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _act(self, line: bytes) -> None:
        if self._state == "head":
            self._begin(line)
        elif self._state == "after":
            if line:
                raise InvalidRequest("The body is not aws-chunked: a chunk is longer than its size.")
            self._end_chunk()
            self._state = "head"
        elif self._state == "trailers":
            self._trailer(line)
        else:
            raise InvalidRequest("The body goes on after its end.")

    def _begin(self, line: bytes) -> None:
        found = _HEAD.fullmatch(line)
        if found is None:
            raise InvalidRequest("The body is not aws-chunked: a chunk's size is expected.")
        self._left = int(found[1], 16)
        self._signature = (found[2] or b"").decode()
        if self.signer is not None and not self._signature:
            raise AccessDenied("A chunk is not signed.", code="signature")
        if self._left:
            self._state = "data"
        else:
            self._end_chunk()
            self._state = "trailers"

    def _end_chunk(self) -> None:
        if self.signer is not None:
            self.signer.check_chunk(self._hash.hexdigest(), self._signature)
            self._hash = hashlib.sha256()

    def _trailer(self, line: bytes) -> None:
        if not line:
            self._end()
            return
        name, colon, value = line.decode("latin-1").partition(":")
        name = name.strip().lower()
        if not colon or not name or name in self._trailers or len(self._trailers) == TRAILER_LIMIT:
            raise InvalidRequest("The body's trailers are malformed.")
        if name == "x-amz-trailer-signature":
            self._trailer_signature = value.strip()
        else:
            self._trailers[name] = value.strip()

    def _end(self) -> None:
        self._state = "end"
        if self.signer is None or not self._trailers:
            return
        if not HEX_SHA256.fullmatch(self._trailer_signature):
            raise AccessDenied("The trailers are not signed.", code="signature")
        text = "".join(f"{name}:{self._trailers[name]}\n" for name in sorted(self._trailers))
        self.signer.check_trailers(text.encode("latin-1"), self._trailer_signature)
