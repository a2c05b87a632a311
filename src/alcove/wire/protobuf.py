"""Protocol buffers (proto3) by tables of fields: ``Message`` -> bytes -> ``Message``.

A message's value is a dictionary by field names. Decoding fills in proto3's defaults: zero, empty text, ``[]`` for
repeated fields, ``{}`` for maps, ``None`` for a message (or a member of a oneof) that is not there. What a table does
not name is skipped. The sender may be hostile: sizes, depth and text are checked, anything else raises
``ProtobufError``.

Standard library only and quick to import, for it is part of a shim that containerd waits for. Not here: groups
(proto2), extensions, unknown fields kept for later.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# As deep as Google's implementations go by default.
MAX_DEPTH = 100
_MASK64 = (1 << 64) - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ProtobufError(ValueError):
    """The bytes are not a message of this table, or the value does not fit into it."""


class Scalar:
    """One of the scalar types of proto3: its wire type, default, and how a number becomes an integer and back."""

    __slots__ = ("bits", "default", "format", "name", "signed", "wire", "zigzag")

    def __init__(
        self,
        name: str,
        wire: int,
        default: Any,
        *,
        bits: int = 64,
        signed: bool = False,
        zigzag: bool = False,
        format: str = "",
    ) -> None:
        self.name = name
        self.wire = wire
        self.default = default
        self.bits = bits
        self.signed = signed
        self.zigzag = zigzag
        self.format = struct.Struct(format) if format else None


BOOL = Scalar("bool", _VARINT, False)
INT32 = Scalar("int32", _VARINT, 0, bits=32, signed=True)
INT64 = Scalar("int64", _VARINT, 0, signed=True)
UINT32 = Scalar("uint32", _VARINT, 0, bits=32)
UINT64 = Scalar("uint64", _VARINT, 0)
SINT32 = Scalar("sint32", _VARINT, 0, bits=32, signed=True, zigzag=True)
SINT64 = Scalar("sint64", _VARINT, 0, signed=True, zigzag=True)
ENUM = Scalar("enum", _VARINT, 0, bits=32, signed=True)
FIXED32 = Scalar("fixed32", _FIXED32, 0, bits=32, format="<I")
FIXED64 = Scalar("fixed64", _FIXED64, 0, format="<Q")
SFIXED32 = Scalar("sfixed32", _FIXED32, 0, bits=32, signed=True, format="<i")
SFIXED64 = Scalar("sfixed64", _FIXED64, 0, signed=True, format="<q")
FLOAT = Scalar("float", _FIXED32, 0.0, format="<f")
DOUBLE = Scalar("double", _FIXED64, 0.0, format="<d")
STRING = Scalar("string", _BYTES, "")
BYTES = Scalar("bytes", _BYTES, b"")


class Field:
    """A row of a table: ``kind`` is a scalar or the table of a message.

    ``optional`` tells a scalar that is absent (``None``) from its default: proto3's ``optional``, members of a oneof.
    """

    __slots__ = ("key", "kind", "name", "number", "optional", "repeated")

    def __init__(
        self,
        number: int,
        name: str,
        kind: Scalar | Message,
        *,
        repeated: bool = False,
        optional: bool = False,
        key: Scalar | None = None,
    ) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.repeated = repeated
        self.optional = optional
        # Of a map: the type of its keys; ``kind`` is that of its values.
        self.key = key

    def default(self) -> Any:
        if self.key is not None:
            return {}
        if self.repeated:
            return []
        return None if self.optional or isinstance(self.kind, Message) else self.kind.default


def map_field(number: int, name: str, key: Scalar, kind: Scalar | Message) -> Field:
    """Return a row whose value is a dictionary."""
    return Field(number, name, kind, key=key)


class Message:
    """The table of a message; ``name`` is its full name, as in the URL of an ``Any``."""

    __slots__ = ("_by_number", "fields", "name")

    def __init__(self, name: str, *fields: Field) -> None:
        self.name = name
        self.fields = fields
        self._by_number = {field.number: field for field in fields}

    def encode(self, value: dict[str, Any]) -> bytes:
        """Return the message's bytes, fields in the order of the table. Raises ``ProtobufError``."""
        unknown = value.keys() - {field.name for field in self.fields}
        if unknown:
            raise ProtobufError(f"{self.name} has no field {sorted(unknown)[0]!r}")
        out = bytearray()
        for field in self.fields:
            if field.name in value:
                _encode_field(out, field, value[field.name])
        return bytes(out)

    def decode(self, data: bytes) -> dict[str, Any]:
        """Return the message's value. Raises ``ProtobufError``."""
        return self._decode(data, None, 0)

    def _decode(self, data: bytes, value: dict[str, Any] | None, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH:
            raise ProtobufError(f"messages are nested more than {MAX_DEPTH} deep")
        if value is None:
            value = {field.name: field.default() for field in self.fields}
        for number, wire, raw in _records(data):
            field = self._by_number.get(number)
            if field is not None:
                _decode_field(value, field, wire, raw, depth)
        return value


# Encoding


def _encode_field(out: bytearray, field: Field, value: Any) -> None:
    if field.key is not None:
        for key, item in value.items():
            entry = bytearray()
            _encode_single(entry, 1, field.key, key)
            _encode_single(entry, 2, field.kind, item)
            _put_bytes(out, field.number, bytes(entry))
    elif not field.repeated:
        if value is not None and (field.optional or _present(field.kind, value)):
            _encode_single(out, field.number, field.kind, value)
    elif isinstance(field.kind, Message) or field.kind.wire == _BYTES:
        for item in value:
            _encode_single(out, field.number, field.kind, item)
    elif value:
        _put_bytes(out, field.number, b"".join(_encode_number(field.kind, item) for item in value))


def _present(kind: Scalar | Message, value: Any) -> bool:
    """Proto3 leaves out what has its default; the negative zero is another number than zero."""
    if isinstance(kind, Message):
        return True
    if kind is FLOAT or kind is DOUBLE:
        return kind.format is not None and kind.format.pack(value) != kind.format.pack(0.0)
    return bool(value != kind.default)


def _encode_single(out: bytearray, number: int, kind: Scalar | Message, value: Any) -> None:
    if isinstance(kind, Message):
        _put_bytes(out, number, kind.encode(value))
    elif kind.wire == _BYTES:
        _put_bytes(out, number, _encode_text(value) if kind is STRING else bytes(value))
    else:
        out += _varint(number << 3 | kind.wire)
        out += _encode_number(kind, value)


def _encode_text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ProtobufError("text with lone surrogates has no UTF-8") from error


def _encode_number(kind: Scalar, value: Any) -> bytes:
    if kind.format is not None:
        try:
            return kind.format.pack(value)
        except (struct.error, OverflowError) as error:
            raise ProtobufError(f"{value} does not fit into {kind.name}") from error
    number = int(value)
    low = -(1 << kind.bits - 1) if kind.signed else 0
    high = (1 << (kind.bits - 1 if kind.signed else kind.bits)) - 1
    if not low <= number <= high:
        raise ProtobufError(f"{value} does not fit into {kind.name}")
    if kind.zigzag:
        number = number << 1 if number >= 0 else (-number << 1) - 1
    return _varint(number & _MASK64)


def _put_bytes(out: bytearray, number: int, data: bytes) -> None:
    out += _varint(number << 3 | _BYTES)
    out += _varint(len(data))
    out += data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


# Decoding


def _records(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield (field number, wire type, integer or bytes) of each record."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _read_varint(data, position)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ProtobufError(f"{number} is no field's number")
        if wire == _VARINT:
            raw, position = _read_varint(data, position)
            yield number, wire, raw
            continue
        if wire == _BYTES:
            length, position = _read_varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ProtobufError(f"wire type {wire} has no place in proto3")
        if length > end - position:
            raise ProtobufError("the message ends in the middle of a field")
        yield number, wire, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if position >= len(data):
            raise ProtobufError("the message ends in the middle of a number")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & _MASK64, position
        shift += 7
        if shift > 63:
            raise ProtobufError("a number has more than ten bytes")


def _decode_field(value: dict[str, Any], field: Field, wire: int, raw: Any, depth: int) -> None:
    kind, name = field.kind, field.name
    if field.key is not None:
        if wire == _BYTES:
            key, item = _decode_entry(field.key, kind, raw, depth)
            value[name][key] = item
    elif isinstance(kind, Message):
        if wire == _BYTES:
            if field.repeated:
                value[name].append(kind._decode(raw, None, depth + 1))
            else:
                # A message that comes in pieces is put together.
                value[name] = kind._decode(raw, value[name], depth + 1)
    elif field.repeated and wire == _BYTES and kind.wire != _BYTES:
        value[name].extend(_decode_packed(kind, raw))
    elif wire == kind.wire:
        item = _decode_scalar(kind, raw)
        if field.repeated:
            value[name].append(item)
        else:
            value[name] = item
    # Another wire type than the table says is an unknown field, as in every implementation.


def _decode_entry(key_kind: Scalar, kind: Scalar | Message, raw: bytes, depth: int) -> tuple[Any, Any]:
    entry = Message("entry", Field(1, "key", key_kind), Field(2, "value", kind))._decode(raw, None, depth + 1)
    if entry["value"] is None and isinstance(kind, Message):
        entry["value"] = kind._decode(b"", None, depth + 1)
    return entry["key"], entry["value"]


def _decode_packed(kind: Scalar, raw: bytes) -> Iterator[Any]:
    if kind.format is None:
        position = 0
        while position < len(raw):
            number, position = _read_varint(raw, position)
            yield _decode_scalar(kind, number)
        return
    if len(raw) % kind.format.size:
        raise ProtobufError("packed numbers end in the middle of one")
    for (number,) in kind.format.iter_unpack(raw):
        yield number


def _decode_scalar(kind: Scalar, raw: Any) -> Any:
    if kind.format is not None:
        return kind.format.unpack(raw)[0]
    if kind is BYTES:
        return raw
    if kind is STRING:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ProtobufError("text is not UTF-8") from error
    if kind is BOOL:
        return raw != 0
    number = raw & ((1 << kind.bits) - 1)
    if kind.zigzag:
        return -(number >> 1) - 1 if number & 1 else number >> 1
    if kind.signed and number >> kind.bits - 1:
        return number - (1 << kind.bits)
    return number
