"""Google's protobuf, told the same tables as ours: what ``wire/protobuf.py`` is compared with."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from alcove.wire import protobuf
from alcove.wire.protobuf import Field, Message, Scalar

_Field = descriptor_pb2.FieldDescriptorProto
TYPES = {
    protobuf.BOOL: _Field.TYPE_BOOL,
    protobuf.INT32: _Field.TYPE_INT32,
    protobuf.INT64: _Field.TYPE_INT64,
    protobuf.UINT32: _Field.TYPE_UINT32,
    protobuf.UINT64: _Field.TYPE_UINT64,
    protobuf.SINT32: _Field.TYPE_SINT32,
    protobuf.SINT64: _Field.TYPE_SINT64,
    protobuf.ENUM: _Field.TYPE_INT32,
    protobuf.FIXED32: _Field.TYPE_FIXED32,
    protobuf.FIXED64: _Field.TYPE_FIXED64,
    protobuf.SFIXED32: _Field.TYPE_SFIXED32,
    protobuf.SFIXED64: _Field.TYPE_SFIXED64,
    protobuf.FLOAT: _Field.TYPE_FLOAT,
    protobuf.DOUBLE: _Field.TYPE_DOUBLE,
    protobuf.STRING: _Field.TYPE_STRING,
    protobuf.BYTES: _Field.TYPE_BYTES,
}


class Oracle:
    """Google's class for a table, and the way between its objects and our dictionaries."""

    def __init__(self, table: Message) -> None:
        self._table = table
        file = descriptor_pb2.FileDescriptorProto(name="oracle.proto", package="oracle", syntax="proto3")
        self._names: dict[int, str] = {}
        self._define(file, table)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        descriptor = pool.FindMessageTypeByName(f"oracle.{self._names[id(table)]}")
        self._type = message_factory.GetMessageClass(descriptor)

    def encode(self, value: dict[str, Any]) -> bytes:
        made = self._type()
        _fill(made, self._table, value)
        return made.SerializeToString()

    def decode(self, data: bytes) -> dict[str, Any]:
        """Raises ``message.DecodeError``."""
        return _value(self._type.FromString(data), self._table)

    def _define(self, file: Any, table: Message) -> str:
        if id(table) in self._names:
            return self._names[id(table)]
        name = self._names[id(table)] = f"M{len(self._names)}"
        defined = descriptor_pb2.DescriptorProto(name=name)
        for field in table.fields:
            self._define_field(file, defined, field)
        file.message_type.append(defined)
        return name

    def _define_field(self, file: Any, defined: Any, field: Field) -> None:
        row = defined.field.add(name=field.name, number=field.number)
        row.label = _Field.LABEL_REPEATED if field.repeated or field.key else _Field.LABEL_OPTIONAL
        if field.key is not None:
            # The entry's name is not free to choose: protoc's rule.
            entry = defined.nested_type.add(name=field.name.title().replace("_", "") + "Entry")
            entry.options.map_entry = True
            self._define_field(file, entry, Field(1, "key", field.key))
            self._define_field(file, entry, Field(2, "value", field.kind))
            row.type, row.type_name = _Field.TYPE_MESSAGE, f".oracle.{defined.name}.{entry.name}"
        elif isinstance(field.kind, Message):
            row.type, row.type_name = _Field.TYPE_MESSAGE, ".oracle." + self._define(file, field.kind)
        else:
            row.type = TYPES[field.kind]
            if field.optional:
                row.proto3_optional = True
                row.oneof_index = len(defined.oneof_decl)
                defined.oneof_decl.add(name=f"_{field.name}")


def _fill(made: message.Message, table: Message, value: dict[str, Any]) -> None:
    for field in table.fields:
        if field.name not in value or value[field.name] is None:
            continue
        item, target = value[field.name], getattr(made, field.name)
        if field.key is not None:
            for key, entry in item.items():
                if isinstance(field.kind, Message):
                    target[key].SetInParent()
                    _fill(target[key], field.kind, entry)
                else:
                    target[key] = entry
        elif isinstance(field.kind, Message):
            for one in item if field.repeated else [item]:
                part = target.add() if field.repeated else target
                part.SetInParent()
                _fill(part, field.kind, one)
        elif field.repeated:
            target.extend(item)
        else:
            setattr(made, field.name, item)


def _value(made: message.Message, table: Message) -> dict[str, Any]:
    return {field.name: _field_value(made, field) for field in table.fields}


def _field_value(made: Any, field: Field) -> Any:
    found, kind = getattr(made, field.name), field.kind
    if field.key is not None:
        return {key: _one(found[key], kind) for key in found}
    if field.repeated:
        return [_one(item, kind) for item in found]
    if (field.optional or isinstance(kind, Message)) and not made.HasField(field.name):
        return None
    return _one(found, kind)


def _one(item: Any, kind: Scalar | Message) -> Any:
    return _value(item, kind) if isinstance(kind, Message) else item
