"""``alcove usage``: what each tenant used, and what of it is beyond the free tier."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import tenant_names
from alcove.cli.options import json_option, run_option

_COLUMNS = (
    *("month", "tenant", "tenant_name", "function", "calls", "errors", "billed_ms", "mib_ms", "gb_s", "streamed_bytes"),
)


@click.command()
@click.option("--tenant", default="", shell_complete=tenant_names, help="One tenant, by name or id; without it, all.")
@click.option("--function", default="", help="One function, by name; without it, all.")
@click.option("--month", default="", help="Such as 2026-11 (UTC), or 'all'; without it, this month.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a line for each month, tenant and function.")
@run_option
@json_option
def usage(tenant: str, function: str, month: str, as_csv: bool, run: Path, as_json: bool) -> None:
    """Print what was used: calls, GB-seconds, streamed bytes, by month, tenant and function; then each tenant's bill.

    Every call that was answered is in it once. GB-seconds are billed milliseconds times the function's memory.

    \b
    Examples:
      alcove usage
      alcove usage --tenant shop --month 2026-11
      alcove usage --month all --csv > usage.csv
    """
    rows, bills = _all(Client(run), {"tenant": tenant, "function": function, "month": month})
    if as_json:
        output.print_json({"usage": rows, "bills": bills})
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print(rows, bills)


def _all(client: Client, query: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    bills: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = client.call("GET", f"/alcove/v1/usage?{urlencode({**query, 'after': after})}")
        rows += page["usage"]
        bills += page.get("bills", [])
        after = page["after"]
    return rows, bills


def _print(rows: list[dict[str, Any]], bills: list[dict[str, Any]]) -> None:
    columns = ("MONTH", "TENANT", "FUNCTION", "CALLS", "ERRORS", "BILLED MS", "GB-S", "STREAMED")
    cells = [
        (
            *(one["month"], _name(one), one["function"], one["calls"], one["errors"], one["billed_ms"]),
            *(f"{one['gb_s']:.3f}", output.size(one["streamed_bytes"])),
        )
        for one in rows
    ]
    output.print_table(columns, cells, empty="nothing was used")
    if not bills:
        return
    priced = any("cost" in one for one in bills)
    columns = ("MONTH", "TENANT", "CALLS", "BEYOND FREE", "GB-S", "BEYOND FREE", *(("COST",) if priced else ()))
    cells = [
        (
            *(one["month"], _name(one), one["calls"], one["billable_calls"], f"{one['gb_s']:.3f}"),
            *(f"{one['billable_gb_s']:.3f}", *((f"{one['cost']:.2f}",) if priced else ())),
        )
        for one in bills
    ]
    click.echo()
    output.print_table(columns, cells, empty="")


def _name(row: dict[str, Any]) -> str:
    return str(row["tenant_name"] or row["tenant"])
