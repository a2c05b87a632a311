"""Hooks around snapshots, for functions: AWS's module of the same name, so that code written for it works.

``@register_before_snapshot`` runs before a published version is saved, ``@register_after_restore`` in each
clone before its first request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_Hook = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
_before: list[_Hook] = []
_after: list[_Hook] = []


def register_before_snapshot(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Callable[..., Any]:
    _before.append((function, arguments, keywords))
    return function


def register_after_restore(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Callable[..., Any]:
    _after.append((function, arguments, keywords))
    return function


def get_before_snapshot() -> list[_Hook]:
    return _before


def get_after_restore() -> list[_Hook]:
    return _after
