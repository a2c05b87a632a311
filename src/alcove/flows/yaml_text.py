"""From a definition's text, YAML or JSON, to plain data: JSON's types and nothing else.

The loader is PyYAML's safe one, held shorter: no anchors or aliases (of which a few lines make millions of nodes), no
tags, no key twice, no dates, and a bounded size and depth.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from alcove.errors import InvalidRequest, TooLarge

SIZE_LIMIT = 64 << 10
DEPTH_LIMIT = 24


class BadDefinition(InvalidRequest):
    """The text is no definition of a flow; the message says where and why."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """See the module's docstring."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadDefinition(f"{_at(event.start_mark)}: anchors and aliases are not offered.")
        if getattr(event, "tag", None):
            raise BadDefinition(f"{_at(event.start_mark)}: tags are not offered.")
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise BadDefinition(f"{_at(event.start_mark)}: nested more than {DEPTH_LIMIT} deep.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                raise BadDefinition(f"{_at(key.start_mark)}: a key must be a word, and be there once.")
            seen.add(key.value)
        pairs = super().construct_mapping(node, deep=True)
        return {str(key.value): pairs[self.construct_object(key)] for key, _ in node.value}


# YAML 1.2's core schema: no dates, no "yes" and "no", no numbers to the base of 60.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]{1,18}", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30}|[0-9]{1,30}(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?",
     "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: _float(loader.construct_scalar(node)))


def _float(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise BadDefinition(f"{text[:40]} is too large a number.")
    return found


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}" if mark is not None else "somewhere"


def load(text: str) -> dict[str, Any]:
    """Raises ``BadDefinition``, ``TooLarge``. Takes some tenths of a second for the largest text."""
    if len(text.encode(errors="replace")) > SIZE_LIMIT:
        raise TooLarge(f"A definition has at most {SIZE_LIMIT} bytes.")
    loader = None
    try:
        loader = _Loader(text)
        document = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        raise BadDefinition(f"{_at(error.problem_mark)}: {error.problem or 'not YAML'}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadDefinition(f"The definition is not YAML: {str(error)[:200]}.") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(document, dict):
        raise BadDefinition("A definition is a mapping with name, start and states.")
    return document
