"""What an operation of the agent's is, and how one says that it cannot be carried out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Operation = Callable[[dict[str, Any]], dict[str, Any] | None]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Refused(Exception):
    """An operation cannot be carried out; ``code`` says why in one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def name_in(request: dict[str, Any], key: str) -> str:
    """Return a name that can be one part of a path. Raises ``Refused``."""
    name = str(request[key])
    if not _NAME.fullmatch(name):
        raise Refused("invalid", f"{key}: {name!r} is no name")
    return name
