"""Evaluation of expressions: each gives a stream of values for one value, as in jq.

What an expression may cost is counted, in values looked at and made; strings and numbers have bounds of their own. So
none takes long, however it is nested, and whatever the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alcove.flows import operators
from alcove.flows.faults import Fault, runtime_fault
from alcove.flows.operators import Meter, truth
from alcove.flows.syntax import BadExpression, Node, parse

_BINARY = ("+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=")


class Expression:
    """One that was parsed. Raises ``BadExpression``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = parse(text)
        _check_calls(self._tree)

    def apply(self, value: Any) -> Any:
        """Return its one value. Raises ``Fault`` where it has none, several, or does not fit."""
        try:
            found = list(_Run().stream(self._tree, value))
        except RecursionError:
            raise runtime_fault(f"{self.text!r} is nested too deep") from None
        except Fault as fault:
            raise runtime_fault(f"{self.text[:200]}: {fault.cause}") from None
        if len(found) != 1:
            raise runtime_fault(f"{self.text[:200]}: gives {len(found)} values, not one")
        return found[0]

    def path(self) -> tuple[str, ...]:
        """Return the names of ``.a.b``, none for ``.``. Raises ``BadExpression`` for anything else."""
        names: list[str] = []
        node: Node | None = self._tree
        while node is not None and node.kind == "field":
            names.append(node.value)
            node = node.parts[0]
        if node is None or node.kind != "identity":
            raise BadExpression(f"{self.text[:60]!r} must be a path, such as .a.b")
        return tuple(reversed(names))


def _check_calls(node: Node) -> None:
    if node.kind == "call" and (node.value, len(node.parts)) not in operators.KNOWN:
        raise BadExpression(
            f"there is no function {node.value}/{len(node.parts)} in expressions",
            hint="known: " + ", ".join(f"{name}/{count}" for name, count in sorted(operators.KNOWN)),
        )
    for part in node.parts:
        if part is not None:
            _check_calls(part)


class _Run:
    def __init__(self) -> None:
        self._meter = Meter()

    def stream(self, node: Node, value: Any) -> Iterator[Any]:
        self._meter.charge(1)
        kind = node.kind
        if kind == "identity":
            yield value
        elif kind == "literal":
            yield node.value
        elif kind in _BINARY:
            yield from self._binary(node, value)
        else:
            yield from getattr(self, _STREAMS[kind])(node, value)

    def _pairs(self, left: Node | None, right: Node | None, value: Any) -> Iterator[tuple[Any, Any]]:
        for second in self.stream(_given(right), value):
            for first in self.stream(_given(left), value):
                yield first, second

    def _binary(self, node: Node, value: Any) -> Iterator[Any]:
        for first, second in self._pairs(node.parts[0], node.parts[1], value):
            yield operators.binary(node.kind, first, second, self._meter)

    def _field(self, node: Node, value: Any) -> Iterator[Any]:
        for one in self._of(node, value):
            yield operators.index(one, node.value)

    def _of(self, node: Node, value: Any) -> Iterator[Any]:
        return self.stream(_given(node.parts[0]), value)

    def _index(self, node: Node, value: Any) -> Iterator[Any]:
        for one, key in self._pairs(node.parts[0], node.parts[1], value):
            yield operators.index(one, key)

    def _slice(self, node: Node, value: Any) -> Iterator[Any]:
        of, start, end = node.parts
        for one in self.stream(_given(of), value):
            for low in [None] if start is None else self.stream(start, value):
                for high in [None] if end is None else self.stream(end, value):
                    yield operators.piece(one, low, high, self._meter)

    def _each(self, node: Node, value: Any) -> Iterator[Any]:
        for one in self._of(node, value):
            for item in operators.items(one):
                self._meter.charge(1)
                yield item

    def _try(self, node: Node, value: Any) -> Iterator[Any]:
        stream = self._of(node, value)
        while True:
            try:
                found = next(stream)
            except (StopIteration, Fault):
                self._meter.check()
                return
            yield found

    def _pipe(self, node: Node, value: Any) -> Iterator[Any]:
        first, second = node.parts
        for one in self.stream(_given(first), value):
            yield from self.stream(_given(second), one)

    def _comma(self, node: Node, value: Any) -> Iterator[Any]:
        for part in node.parts:
            yield from self.stream(_given(part), value)

    def _other(self, node: Node, value: Any) -> Iterator[Any]:
        """What is there of the first, without null, false and faults; the second where that is nothing."""
        first, second = node.parts
        found = False
        for one in self._try(Node("try", None, (first,)), value):
            if truth(one):
                found = True
                yield one
        if not found:
            yield from self.stream(_given(second), value)

    def _and(self, node: Node, value: Any) -> Iterator[Any]:
        first, second = node.parts
        for one in self.stream(_given(first), value):
            if truth(one) is (node.kind == "or"):
                yield truth(one)
            else:
                yield from (truth(other) for other in self.stream(_given(second), value))

    def _array(self, node: Node, value: Any) -> Iterator[Any]:
        (inside,) = node.parts
        yield self._meter.weigh([] if inside is None else list(self.stream(inside, value)))

    def _object(self, node: Node, value: Any) -> Iterator[Any]:
        made: list[dict[str, Any]] = [{}]
        for key, content in zip(node.parts[::2], node.parts[1::2], strict=True):
            pairs = [(name, one) for one, name in self._pairs(content, key, value)]
            if not all(isinstance(name, str) for name, _ in pairs):
                raise runtime_fault("the key of an object must be a string")
            made = [self._meter.weigh({**old, name: one}) for old in made for name, one in pairs]
        yield from made

    def _if(self, node: Node, value: Any) -> Iterator[Any]:
        condition, then, other = node.parts
        for one in self.stream(_given(condition), value):
            yield from self.stream(_given(then if truth(one) else other), value)

    def _call(self, node: Node, value: Any) -> Iterator[Any]:
        arguments = node.parts
        if node.value == "empty":
            return
        if node.value == "select":
            yield from (value for one in self.stream(_given(arguments[0]), value) if truth(one))
        elif node.value == "map":
            inside = _given(arguments[0])
            found = [one for item in operators.items(value) for one in self.stream(inside, item)]
            yield self._meter.weigh(found)
        elif node.value in operators.BY_KEY:
            keys = [list(self.stream(_given(arguments[0]), item)) for item in operators.items(value)]
            yield operators.by_key(node.value, value, keys, self._meter)
        elif arguments:
            for argument in self.stream(_given(arguments[0]), value):
                yield operators.call(node.value, value, argument, self._meter)
        else:
            yield operators.call(node.value, value, None, self._meter)


def _given(node: Node | None) -> Node:
    assert node is not None
    return node


_STREAMS = {
    "field": "_field", "index": "_index", "slice": "_slice", "each": "_each", "try": "_try", "|": "_pipe",
    ",": "_comma", "//": "_other", "and": "_and", "or": "_and", "array": "_array", "object": "_object", "if": "_if",
    "call": "_call",
}  # fmt: skip
