"""The variables that tell a function how its log lines are to be written, as AWS names them."""

from __future__ import annotations

from typing import Any


def log_variables(load: dict[str, Any]) -> dict[str, str]:
    """Return them; ``load`` is the document of LOAD."""
    logging = load.get("logging") or {}
    found = {"AWS_LAMBDA_LOG_FORMAT": logging.get("format") or "Text"}
    if logging.get("level"):
        found["AWS_LAMBDA_LOG_LEVEL"] = logging["level"]
    return found
