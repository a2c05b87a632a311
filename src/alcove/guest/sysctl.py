"""Kernel settings of the namespaces that a pod's containers share with their guest."""

from __future__ import annotations

import re
from typing import Any

from alcove.guest.refused import Refused

_SHARED = re.compile(r"(net\.[a-z0-9_.-]+|kernel\.(shm|msg|sem)[a-z_]*|fs\.mqueue\.[a-z_]+)", re.IGNORECASE)


def set_values(request: dict[str, Any], base: str = "/proc/sys") -> None:
    """Set ``values`` ({name: text}). Raises ``Refused`` for one that is not a pod's."""
    values = {str(name): str(value) for name, value in request["values"].items()}
    for name in values:
        if not _SHARED.fullmatch(name) or ".." in name:
            raise Refused("invalid", f"{name!r} is no setting of a pod's")
    for name, value in values.items():
        try:
            with open(f"{base}/{name.replace('.', '/')}", "w") as file:
                file.write(value)
        except OSError as error:
            raise Refused("invalid", f"{name}={value}: {error.strerror}") from error
