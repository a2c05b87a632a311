"""The options by which function URLs and routes get CORS rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_LISTS = (
    ("--origin", "AllowOrigins", "A page's origin that may call (CORS), or *; repeatable."),
    ("--method", "AllowMethods", "A method that such pages may use; without it, all. Repeatable."),
    ("--header", "AllowHeaders", "A header that they may send; without it, all. Repeatable."),
    ("--expose", "ExposeHeaders", "A header that they may read; repeatable."),
)


def cors_options(command: F) -> F:
    """Add the options; the command gets them as ``cors``-prefixed arguments, for ``cors_document``."""
    cookies, memory = "Pages may send cookies.", "Seconds for which browsers remember the rules."
    command = click.option("--credentials", "cors_AllowCredentials", is_flag=True, help=cookies)(command)
    seconds = click.IntRange(0, 86_400)
    command = click.option("--max-age", "cors_MaxAge", type=seconds, default=0, help=memory)(command)
    for flag, name, text in reversed(_LISTS):
        command = click.option(flag, f"cors_{name}", multiple=True, help=text)(command)
    return command


def cors_document(options: dict[str, Any]) -> dict[str, Any] | None:
    """Return the rules as the API takes them, None where no origin is named. Raises ``click.UsageError``."""
    found = {name.removeprefix("cors_"): value for name, value in options.items()}
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items() if value}
    if not given:
        return None
    if "AllowOrigins" not in given:
        raise click.UsageError("CORS rules need --origin: whose pages may call")
    return {"AllowMethods": ["*"], "AllowHeaders": ["*"], **given}
