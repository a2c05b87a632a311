"""Expressions of flows, the part of jq that they need: from text to a tree. Evaluation is in ``expression``.

::

    pipe       = comma { "|" comma }
    comma      = other { "," other }
    other      = or { "//" or }
    or         = and { "or" and }
    and        = compare { "and" compare }
    compare    = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
    sum        = product { ("+" | "-") product }
    product    = postfix { ("*" | "/" | "%") postfix }
    postfix    = primary { "." NAME | "." STRING | "[" [ pipe | [pipe] ":" [pipe] ] "]" | "?" }
    primary    = "." [NAME | STRING] | NUMBER | STRING | "null" | "true" | "false" | "(" pipe ")" | "[" [pipe] "]"
               | "{" [ entry { "," entry } ] "}" | "-" postfix | NAME [ "(" pipe { ";" pipe } ")" ]
               | "if" pipe "then" pipe { "elif" pipe "then" pipe } [ "else" pipe ] "end"
    entry      = (NAME | STRING | "(" pipe ")") [ ":" other ]
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alcove.errors import InvalidRequest

LENGTH_LIMIT = 1024
NESTING_LIMIT = 32
_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)'
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>//|==|!=|<=|>=|[.|,<>+\-*/%()\[\]{}:;?]))"
)
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_RESERVED = ("and", "elif", "else", "end", "if", "or", "then")
_END = ("end", "")


class BadExpression(InvalidRequest):
    """The text is no expression that is known here."""


@dataclass(frozen=True, slots=True)
class Node:
    """``kind`` says what ``value`` and ``parts`` are: see the parser."""

    kind: str
    value: Any = None
    parts: tuple[Node | None, ...] = ()


IDENTITY = Node("identity")


def parse(text: str) -> Node:
    """Raises ``BadExpression``, which says where."""
    if len(text) > LENGTH_LIMIT:
        raise BadExpression(f"an expression has at most {LENGTH_LIMIT} characters")
    parser = _Parser(_tokens(text))
    tree = parser.pipe()
    if parser.token != _END:
        raise parser.wrong()
    return tree


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadExpression(f"{text[at : at + 20]!r} is not understood in an expression")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def token(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def wrong(self) -> BadExpression:
        return BadExpression(f"{self.token[1] or 'the end'!r} is not expected there in an expression")

    def _take(self, *words: str) -> str | None:
        """Take the next token where it is one of these marks or words."""
        kind, text = self.token
        if text not in words or kind not in ("mark", "name"):
            return None
        self._at += 1
        return text

    def _need(self, word: str) -> None:
        if self._take(word) is None:
            raise self.wrong()

    def pipe(self) -> Node:
        self._depth += 1
        if self._depth > NESTING_LIMIT:
            raise BadExpression("the expression is nested too deep")
        found = self._left(self._comma, ("|",))
        self._depth -= 1
        return found

    def _left(self, operand: Callable[[], Node], marks: tuple[str, ...]) -> Node:
        """Return what operators of one precedence make of their operands, from the left."""
        found = operand()
        while (mark := self._take(*marks)) is not None:
            found = Node(mark, None, (found, operand()))
        return found

    def _comma(self) -> Node:
        return self._left(self._other, (",",))

    def _other(self) -> Node:
        return self._left(self._or, ("//",))

    def _or(self) -> Node:
        return self._left(self._and, ("or",))

    def _and(self) -> Node:
        return self._left(self._compare, ("and",))

    def _compare(self) -> Node:
        found = self._sum()
        mark = self._take(*_COMPARISONS)
        return found if mark is None else Node(mark, None, (found, self._sum()))

    def _sum(self) -> Node:
        return self._left(self._product, ("+", "-"))

    def _product(self) -> Node:
        return self._left(self._postfix, ("*", "/", "%"))

    def _postfix(self) -> Node:
        found = self._primary()
        while True:
            if self._take("?"):
                found = Node("try", None, (found,))
            elif self._take("["):
                found = self._bracket(found)
            elif self.token == ("mark", "."):
                self._at += 1
                found = self._bracket(found) if self._take("[") else Node("field", self._word(), (found,))
            else:
                return found

    def _bracket(self, of: Node) -> Node:
        if self._take("]"):
            return Node("each", None, (of,))
        start = None if self.token == ("mark", ":") else self.pipe()
        if self._take(":"):
            end = None if self.token == ("mark", "]") else self.pipe()
            self._need("]")
            return Node("slice", None, (of, start, end))
        self._need("]")
        return Node("index", None, (of, start))

    def _word(self) -> str:
        """A name or a string."""
        kind, text = self.token
        if kind not in ("name", "string"):
            raise self.wrong()
        self._at += 1
        return _unquoted(text) if kind == "string" else text

    def _primary(self) -> Node:
        kind, text = self.token
        if kind == "string":
            return Node("literal", self._word())
        if kind == "number":
            self._at += 1
            return Node("literal", _number(text))
        if kind == "name":
            return self._named()
        return self._marked()

    def _marked(self) -> Node:
        if self._take("."):
            named = self.token[0] == "string" or (self.token[0] == "name" and self.token[1] not in _RESERVED)
            return Node("field", self._word(), (IDENTITY,)) if named else IDENTITY
        if self._take("("):
            found = self.pipe()
            self._need(")")
            return found
        if self._take("["):
            inside = None if self.token == ("mark", "]") else self.pipe()
            self._need("]")
            return Node("array", None, (inside,))
        if self._take("{"):
            return self._object()
        if self._take("-"):
            self._depth += 1
            if self._depth > NESTING_LIMIT:
                raise BadExpression("the expression is nested too deep")
            found = Node("-", None, (Node("literal", 0), self._postfix()))
            self._depth -= 1
            return found
        raise self.wrong()

    def _object(self) -> Node:
        entries: list[Node | None] = []
        if not self._take("}"):
            while True:
                entries += self._entry()
                if not self._take(","):
                    break
            self._need("}")
        return Node("object", None, tuple(entries))

    def _entry(self) -> tuple[Node, Node]:
        if self._take("("):
            key = self.pipe()
            self._need(")")
            self._need(":")
            return key, self._other()
        key = Node("literal", self._word())
        return key, self._other() if self._take(":") else Node("field", key.value, (IDENTITY,))

    def _named(self) -> Node:
        _, name = self.token
        if name == "if":
            self._at += 1
            return self._condition()
        if name in _RESERVED:
            raise self.wrong()
        self._at += 1
        if name in ("null", "true", "false"):
            return Node("literal", json.loads(name))
        arguments: list[Node | None] = []
        if self._take("("):
            arguments.append(self.pipe())
            while self._take(";"):
                arguments.append(self.pipe())
            self._need(")")
        return Node("call", name, tuple(arguments))

    def _condition(self) -> Node:
        """What follows ``if`` or ``elif``."""
        self._depth += 1
        if self._depth > NESTING_LIMIT:
            raise BadExpression("the expression is nested too deep")
        condition = self.pipe()
        self._need("then")
        then = self.pipe()
        if self._take("elif"):
            other = self._condition()
        else:
            other = self.pipe() if self._take("else") else IDENTITY
            self._need("end")
        self._depth -= 1
        return Node("if", None, (condition, then, other))


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise BadExpression(f"{text[:40]} is not a string") from None


def _number(text: str) -> int | float:
    try:
        found: int | float = json.loads(text.lstrip("0") or "0") if text.isdigit() else float(text)
    except ValueError:
        raise BadExpression(f"{text[:40]} is not a number") from None
    if abs(found) > 1e300:
        raise BadExpression(f"{text[:40]} is too large a number")
    return found
