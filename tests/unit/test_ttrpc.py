from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.wire import ttrpc
from alcove.wire.ttrpc import Decoder, Failure, TtrpcError

FRAMES = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=50)), max_size=5)


@given(FRAMES, st.integers(1, 30))
def test_frames_survive_any_cutting(frames: list[tuple[int, int, bytes]], size: int) -> None:
    data = b"".join(ttrpc.encode(*frame) for frame in frames)
    decoder = Decoder()
    found = [frame for start in range(0, len(data), size) for frame in decoder.feed(data[start : start + size])]
    assert found == frames


def test_the_bytes_on_the_wire() -> None:
    frame = ttrpc.request(1, "s", "m", b"p")
    assert frame == b"\x00\x00\x00\x09\x00\x00\x00\x01\x01\x00" + b"\x0a\x01s\x12\x01m\x1a\x01p"


def test_an_oversize_frame_is_refused_from_its_header() -> None:
    with pytest.raises(TtrpcError, match="over the limit"):
        list(Decoder().feed(ttrpc.HEADER.pack(ttrpc.MAX_DATA + 1, 1, ttrpc.REQUEST, 0)))
    with pytest.raises(TtrpcError):
        ttrpc.encode(1, ttrpc.REQUEST, bytes(ttrpc.MAX_DATA + 1))


def test_an_error_comes_back_with_its_code() -> None:
    [(stream, kind, data)] = Decoder().feed(ttrpc.error_response(7, Failure(ttrpc.NOT_FOUND, "no such task")))
    assert (stream, kind) == (7, ttrpc.RESPONSE)
    with pytest.raises(Failure, match="no such task") as caught:
        ttrpc.result(data)
    assert caught.value.code == ttrpc.NOT_FOUND


def test_a_result_comes_back_whole() -> None:
    [(_, _, data)] = Decoder().feed(ttrpc.response(7, b"payload"))
    assert ttrpc.result(data) == b"payload"
