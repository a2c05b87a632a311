"""``alcove fn show --findings``: what the automatic checks found."""

from __future__ import annotations

from typing import Any

import click

from alcove.cli import output

_STATES = {
    "off": "the automatic checks are off (the isolation rules have no [checks])",
    "passed": "passed",
    "waiting": "not checked yet",
    "flagged": "flagged",
}


def show_findings(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(found)
        return
    state = _STATES.get(found["state"]) or f"could not be checked: {found.get('failed')}"
    click.echo(f"{found['function']}:{found['version']}: {state}")
    rows = [(one["severity"], one["scanner"], one["rule"], _place(one), one["text"]) for one in found["findings"]]
    if rows:
        output.print_table(("SEVERITY", "SCANNER", "RULE", "WHERE", "WHAT"), rows, empty="")


def _place(finding: dict[str, Any]) -> str:
    layer = finding["layer"].rpartition(":layer:")[2]
    return f"{layer + ' ' if layer else ''}{finding['file']}:{finding['line']}"
