"""The codec by tables, held against Google's, which is told the same tables."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tests.protobuf_oracle import TYPES, Oracle

from alcove.wire import cgroup_messages, event_messages, protobuf, task_messages, ttrpc
from alcove.wire.protobuf import Field, Message, ProtobufError, Scalar, map_field

INNER = Message("Inner", Field(1, "number", protobuf.SINT64), Field(2, "names", protobuf.STRING, repeated=True))
SCALARS = [kind for kind in TYPES if isinstance(kind, Scalar)]
KITCHEN_SINK = Message(
    "KitchenSink",
    *(Field(number, f"one_{kind.name}", kind) for number, kind in enumerate(SCALARS, 1)),
    *(Field(number, f"many_{kind.name}", kind, repeated=True) for number, kind in enumerate(SCALARS, 101)),
    *(Field(number, f"maybe_{kind.name}", kind, optional=True) for number, kind in enumerate(SCALARS, 201)),
    Field(301, "inner", INNER),
    Field(302, "inners", INNER, repeated=True),
    map_field(303, "labels", protobuf.STRING, protobuf.STRING),
    map_field(304, "numbers", protobuf.INT32, protobuf.DOUBLE),
    map_field(305, "parts", protobuf.BOOL, INNER),
)
SINK_ORACLE = Oracle(KITCHEN_SINK)


def told(value: Any) -> Any:
    """Return what can be compared: a NaN is one, and a map has no order."""
    if isinstance(value, dict):
        return sorted((repr(key), told(one)) for key, one in value.items())
    return [told(one) for one in value] if isinstance(value, list) else repr(value)


def numbers(kind: Scalar) -> st.SearchStrategy[Any]:
    if kind is protobuf.FLOAT:
        return st.floats(width=32, allow_nan=False)
    if kind is protobuf.DOUBLE:
        return st.floats(allow_nan=False)
    if kind is protobuf.BOOL:
        return st.booleans()
    if kind is protobuf.STRING:
        return st.text(max_size=20)
    if kind is protobuf.BYTES:
        return st.binary(max_size=20)
    low = -(1 << kind.bits - 1) if kind.signed else 0
    return st.integers(low, low + (1 << kind.bits) - 1)


def values(table: Message) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={field.name: _of_field(field) for field in table.fields})


def _of_field(field: Field) -> st.SearchStrategy[Any]:
    one = values(field.kind) if isinstance(field.kind, Message) else numbers(field.kind)
    if field.key is not None:
        return st.dictionaries(numbers(field.key), one, max_size=3)
    return st.lists(one, max_size=3) if field.repeated else one


def all_tables() -> list[Message]:
    modules = (cgroup_messages, event_messages, task_messages, ttrpc)
    return [item for module in modules for item in vars(module).values() if isinstance(item, Message)]


@given(values(KITCHEN_SINK))
def test_google_reads_what_we_write_and_we_read_what_google_writes(value: dict[str, Any]) -> None:
    ours = KITCHEN_SINK.encode(value)
    assert SINK_ORACLE.decode(ours) == KITCHEN_SINK.decode(ours)
    assert KITCHEN_SINK.decode(SINK_ORACLE.encode(value)) == KITCHEN_SINK.decode(ours)


@pytest.mark.parametrize("table", all_tables(), ids=lambda table: table.name)
def test_each_table_makes_googles_bytes(table: Message) -> None:
    oracle = Oracle(table)

    @given(values(table))
    def check(value: dict[str, Any]) -> None:
        assert oracle.decode(table.encode(value)) == table.decode(oracle.encode(value))

    check()


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_google_reads_them_or_refused(data: bytes) -> None:
    try:
        ours = KITCHEN_SINK.decode(data)
    except ProtobufError:
        return
    assert told(ours) == told(SINK_ORACLE.decode(data))


@given(values(KITCHEN_SINK), st.data())
def test_a_message_cut_short_is_read_as_google_reads_it(value: dict[str, Any], data: st.DataObject) -> None:
    whole = KITCHEN_SINK.encode(value)
    part = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        theirs = SINK_ORACLE.decode(part)
    except DecodeError:
        with pytest.raises(ProtobufError):
            KITCHEN_SINK.decode(part)
    else:
        assert told(KITCHEN_SINK.decode(part)) == told(theirs)


def test_a_message_that_comes_in_pieces_is_put_together() -> None:
    table = Message("Outer", Field(1, "inner", INNER))
    first = table.encode({"inner": {"number": 5, "names": ["a"]}})
    second = table.encode({"inner": {"names": ["b"]}})
    assert table.decode(first + second) == {"inner": {"number": 5, "names": ["a", "b"]}}


def test_numbers_one_by_one_and_packed_are_the_same() -> None:
    table = Message("Numbers", Field(1, "many", protobuf.INT32, repeated=True))
    assert table.decode(b"\x08\x01\x0a\x02\x02\x03\x08\x04") == {"many": [1, 2, 3, 4]}


def test_unknown_fields_are_skipped() -> None:
    newer = Message("New", Field(1, "a", protobuf.INT32), Field(9, "b", INNER), Field(10, "c", protobuf.DOUBLE))
    older = Message("Old", Field(1, "a", protobuf.INT32))
    assert older.decode(newer.encode({"a": 3, "b": {"names": ["x"]}, "c": 1.5})) == {"a": 3}


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b\x0c",  # a group
        b"\x00\x00",  # field 0
        b"\x0a\x05abc",  # shorter than it says
        b"\x08" + b"\xff" * 11,  # a number without end
        b"\x08",  # no number
        b"\x12\x01\xff",  # not UTF-8
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    table = Message("T", Field(1, "number", protobuf.INT64), Field(2, "text", protobuf.STRING))
    with pytest.raises(ProtobufError):
        table.decode(data)


def test_depth_is_bounded() -> None:
    inner = Field(1, "inner", protobuf.BYTES)
    table = Message("Nested", inner)
    inner.kind = table
    data = b""
    for _ in range(protobuf.MAX_DEPTH + 1):
        data = b"\x0a" + protobuf._varint(len(data)) + data
    with pytest.raises(ProtobufError, match="nested"):
        table.decode(data)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(protobuf.UINT32, -1), (protobuf.INT32, 1 << 31), (protobuf.UINT64, 1 << 64), (protobuf.FIXED32, -1)],
)
def test_a_number_that_does_not_fit_is_refused(kind: Scalar, value: int) -> None:
    with pytest.raises(ProtobufError, match="does not fit"):
        Message("T", Field(1, "number", kind)).encode({"number": value})


def test_a_field_that_the_table_lacks_is_refused() -> None:
    with pytest.raises(ProtobufError, match="'typo'"):
        INNER.encode({"typo": 1})


def test_the_negative_zero_is_not_zero() -> None:
    table = Message("T", Field(1, "x", protobuf.DOUBLE))
    assert table.encode({"x": 0.0}) == b""
    assert table.encode({"x": -0.0}) == b"\x09" + struct.pack("<d", -0.0)
