"""Frames: any chunking gives the same frames, garbage gives ``FrameError``, and limits hold."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.wire.frame import (
    HEADER,
    KINDS,
    MAX_PAYLOAD,
    Decoder,
    Frame,
    FrameError,
    Kind,
    encode,
    parse_header,
)

IDS = st.integers(0, 2**32 - 1)
FRAMES = st.builds(Frame, st.sampled_from(Kind), IDS, st.binary(max_size=300))


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({min(place, len(data)) for place in at})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 2500), max_size=20))
def test_any_chunking_gives_the_same_frames(frames: list[Frame], at: list[int]) -> None:
    data = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder()
    got = [frame for chunk in cut(data, at) for frame in decoder.feed(chunk)]
    assert got == frames
    assert list(decoder.feed(b"")) == []


@given(st.lists(FRAMES, min_size=1, max_size=3))
def test_byte_by_byte(frames: list[Frame]) -> None:
    data = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder()
    assert [f for i in range(len(data)) for f in decoder.feed(data[i : i + 1])] == frames


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_gives_frames_within_the_limits_or_an_error(garbage: bytes, at: list[int]) -> None:
    decoder = Decoder()
    got = []
    try:
        for chunk in cut(garbage, at):
            got += list(decoder.feed(chunk))
    except FrameError:
        pass
    # What was understood is exactly what was sent.
    again = b"".join(encode(*frame) for frame in got)
    assert garbage.startswith(again)


@given(st.lists(FRAMES, max_size=4), st.integers(0, 255), st.integers(0, 2**32 - 1), IDS)
def test_frames_before_garbage_are_delivered(frames: list[Frame], kind: int, length: int, id: int) -> None:
    bad = struct.pack(">IBI", length, kind, id)
    decoder = Decoder()
    got = []
    data = b"".join(encode(*frame) for frame in frames) + bad
    if kind in KINDS and length <= MAX_PAYLOAD:
        assert parse_header(bad) == (length, KINDS[kind], id)
        return
    with pytest.raises(FrameError):
        for frame in decoder.feed(data):
            got.append(frame)
    assert got == frames


@pytest.mark.parametrize("kind", [0, 7, 15, 30, 255])
def test_unknown_kinds_are_refused_before_their_payload_comes(kind: int) -> None:
    with pytest.raises(FrameError, match=f"unknown frame kind {kind}"):
        list(Decoder().feed(struct.pack(">IBI", 100, kind, 1)))


def test_the_largest_frame() -> None:
    payload = bytes(MAX_PAYLOAD)
    data = encode(Kind.INVOKE, 1, payload)
    decoder = Decoder()
    assert list(decoder.feed(data[:-1])) == []
    (frame,) = decoder.feed(data[-1:])
    assert (frame.kind, frame.id, frame.payload == payload) == (Kind.INVOKE, 1, True)


def test_a_frame_over_the_limit_is_refused_at_both_ends() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        encode(Kind.INVOKE, 1, bytes(MAX_PAYLOAD + 1))
    header = struct.pack(">IBI", MAX_PAYLOAD + 1, Kind.INVOKE, 1)
    with pytest.raises(FrameError, match="over the limit"):
        list(Decoder().feed(header))
    with pytest.raises(FrameError, match="over the limit"):
        parse_header(header)


def test_the_layout() -> None:
    """Other languages' runtimes have it by heart."""
    assert HEADER.size == 9
    assert encode(Kind.PING, 0x01020304, b"ab") == b"\0\0\0\2\x19\1\2\3\4ab"
    assert {kind.name: int(kind) for kind in Kind if kind >= 16} == {
        "READY": 16,
        "LOAD": 17,
        "LOADED": 18,
        "INVOKE": 19,
        "RESULT": 20,
        "FAILURE": 21,
        "HOOK": 22,
        "DONE": 23,
        "UNLOAD": 24,
        "PING": 25,
        "PONG": 26,
        "STREAM": 27,
        "CHUNK": 28,
        "END": 29,
    }
    assert MAX_PAYLOAD == 6 * 1024 * 1024 + 65536


@pytest.mark.parametrize("id", [-1, 2**32])
def test_an_id_that_does_not_fit(id: int) -> None:
    with pytest.raises(struct.error):
        encode(Kind.PING, id)
