"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_RUN = Path("/run/alcove")
DEFAULT_STATE = Path("/var/lib/alcove")


def run_option(function: F) -> F:
    return click.option(
        "--run",
        type=click.Path(path_type=Path),
        default=DEFAULT_RUN,
        envvar="ALCOVE_RUN",
        show_default=True,
        help="The server's --run folder.",
    )(function)


def state_option(function: F) -> F:
    return click.option(
        "--state",
        type=click.Path(path_type=Path),
        default=DEFAULT_STATE,
        envvar="ALCOVE_STATE",
        show_default=True,
        help="The server's state folder.",
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


# Of instances.
TIERS = click.Choice(["vm", "kata", "gvisor", "process"])
