"""Bodies in chunks, cut anywhere by the network; what is not in the form is refused."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import AccessDenied, InvalidRequest
from alcove.wire.aws_chunked import AwsChunkedDecoder, ChunkSigner

KEY = b"k" * 32


def signer() -> ChunkSigner:
    return ChunkSigner(KEY, "20260101T000000Z", "20260101/r/s3/aws4_request", "0" * 64)


def encode(pieces: list[bytes], trailers: dict[str, str], *, signed: bool) -> bytes:
    out, chain = bytearray(), signer()
    empty = hashlib.sha256(b"").hexdigest()

    def sign(*parts: str) -> str:
        text = "\n".join((parts[0], chain.date, chain.scope, chain.previous, *parts[1:]))
        chain.previous = hmac.digest(KEY, text.encode(), "sha256").hex()
        return chain.previous

    for piece in [*[piece for piece in pieces if piece], b""]:
        out += f"{len(piece):x}".encode()
        if signed:
            digest = hashlib.sha256(piece).hexdigest()
            out += f";chunk-signature={sign('AWS4-HMAC-SHA256-PAYLOAD', empty, digest)}".encode()
        out += b"\r\n" + (piece + b"\r\n" if piece else b"")
    text = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
    out += text.replace("\n", "\r\n").encode()
    if signed and trailers:
        digest = hashlib.sha256(text.encode()).hexdigest()
        out += f"x-amz-trailer-signature:{sign('AWS4-HMAC-SHA256-TRAILER', digest)}\r\n".encode()
    return bytes(out + b"\r\n")


def decode(decoder: AwsChunkedDecoder, data: bytes, cuts: list[int]) -> tuple[bytes, dict[str, str]]:
    found, last = b"", 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += b"".join(decoder.feed(data[last:cut]))
        last = cut
    return found, decoder.close()


pieces = st.lists(st.binary(max_size=300), max_size=5)


@given(
    pieces,
    st.dictionaries(st.sampled_from(["a", "b-c"]), st.sampled_from(["1", "x="])),
    st.booleans(),
    st.lists(st.integers(0, 5000), max_size=8),
)
def test_what_was_encoded_comes_out(
    parts: list[bytes], trailers: dict[str, str], signed: bool, cuts: list[int]
) -> None:
    decoder = AwsChunkedDecoder(signer() if signed else None)
    assert decode(decoder, encode(parts, trailers, signed=signed), cuts) == (b"".join(parts), trailers)


@given(pieces, st.integers(0, 5000), st.integers(1, 255))
def test_no_changed_byte_of_a_signed_body_goes_unseen(parts: list[bytes], place: int, change: int) -> None:
    good = encode(parts, {"a": "1"}, signed=True)
    bad = bytearray(good)
    bad[place % len(bad)] ^= change
    try:
        found, trailers = decode(AwsChunkedDecoder(signer()), bytes(bad), [])
    except (AccessDenied, InvalidRequest):
        return
    # Only what has no meaning may differ: the case of a size's or a name's letters.
    assert (found, trailers) == (b"".join(parts), {"a": "1"})


@pytest.mark.parametrize("trailers", [{}, {"a": "1"}])
def test_a_changed_chunk_is_refused(trailers: dict[str, str]) -> None:
    body = encode([b"first", b"second"], trailers, signed=True)
    for changed in (body.replace(b"first", b"worst"), body.replace(b"second", b"sekond")):
        with pytest.raises(AccessDenied):
            decode(AwsChunkedDecoder(signer()), changed, [])


@given(st.binary(max_size=3000))
def test_rubbish_is_refused_not_crashed_on(data: bytes) -> None:
    decoder = AwsChunkedDecoder()
    try:
        decode(decoder, data, [])
    except InvalidRequest:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\nxx\r\n0\r\n\r\n",
        b"2\r\nxxx\r\n0\r\n\r\n",
        b"2\r\nxx\r\n",
        b"0\r\n\r\nmore\r\n",
        b"0\r\n" + b"a:b\r\n" * 2 + b"\r\n",
        b"f" * 2000,
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(AwsChunkedDecoder(), data, [])
