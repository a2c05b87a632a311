"""``alcove usage``: what each tenant used by functions and instances, and what of it is beyond the free tier."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import function_names, instance_names, tenant_names
from alcove.cli.options import json_option, run_option

_COLUMNS = (
    *("month", "tenant", "tenant_name", "function", "calls", "errors", "billed_ms", "mib_ms", "gb_s", "streamed_bytes"),
    *("instance", "run_ms", "milli_vcpu_ms", "vcpu_s", "disk_mib_ms", "disk_gb_s", "received_bytes", "sent_bytes"),
)


@click.command()
@click.option("--tenant", default="", shell_complete=tenant_names, help="One tenant, by name or id; without it, all.")
@click.option("--function", default="", shell_complete=function_names, help="One function, by name; without it, all.")
@click.option("--instance", default="", shell_complete=instance_names, help="One instance, by name; without it, all.")
@click.option("--month", default="", help="Such as 2026-11 (UTC), or 'all'; without it, this month.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a line for each month, tenant and part.")
@run_option
@json_option
def usage(tenant: str, function: str, instance: str, month: str, as_csv: bool, run: Path, as_json: bool) -> None:
    """Print what was used, by month and tenant: of functions calls, GB-seconds and streamed bytes; of instances vCPU-,
    GB- and disk-GB-seconds and traffic; then each tenant's bill.

    Every call that was answered is in it once. GB-seconds are billed milliseconds times the function's memory; an
    instance is billed for its size from its first container's start to the last one's end.

    \b
    Examples:
      alcove usage
      alcove usage --tenant shop --month 2026-11
      alcove usage --instance web --json
      alcove usage --month all --csv > usage.csv
    """
    client, common = Client(run), {"tenant": tenant, "month": month}
    rows, bills = ([], []) if instance else _all(client, "", "usage", {**common, "function": function})
    pods = [] if function else _all(client, "/instances", "instances", {**common, "instance": instance})[0]
    if as_json:
        output.print_json({"usage": rows, "instances": pods, "bills": bills})
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, _COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, *pods])
    else:
        _print(rows, pods, bills)


def _all(
    client: Client, below: str, kind: str, query: dict[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    bills: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = client.call("GET", f"/alcove/v1/usage{below}?{urlencode({**query, 'after': after})}")
        rows += page[kind]
        bills += page.get("bills", [])
        after = page["after"]
    return rows, bills


def _print(rows: list[dict[str, Any]], pods: list[dict[str, Any]], bills: list[dict[str, Any]]) -> None:
    if rows or not pods:
        _print_functions(rows)
    if pods:
        click.echo() if rows else None
        _print_instances(pods)
    if bills:
        click.echo()
        _print_bills(bills)


def _print_functions(rows: list[dict[str, Any]]) -> None:
    columns = ("MONTH", "TENANT", "FUNCTION", "CALLS", "ERRORS", "BILLED MS", "GB-S", "STREAMED")
    cells = [
        (
            *(one["month"], _name(one), one["function"], one["calls"], one["errors"], one["billed_ms"]),
            *(f"{one['gb_s']:.3f}", output.size(one["streamed_bytes"])),
        )
        for one in rows
    ]
    output.print_table(columns, cells, empty="nothing was used")


def _print_instances(pods: list[dict[str, Any]]) -> None:
    columns = ("MONTH", "TENANT", "INSTANCE", "RUN", "VCPU-S", "GB-S", "DISK GB-S", "RECEIVED", "SENT")
    cells = [
        (
            *(one["month"], _name(one), one["instance"] or "(others)", f"{one['run_ms'] / 1000:.3f} s"),
            *(f"{one['vcpu_s']:.3f}", f"{one['gb_s']:.3f}", f"{one['disk_gb_s']:.3f}"),
            *(output.size(one["received_bytes"]), output.size(one["sent_bytes"])),
        )
        for one in pods
    ]
    output.print_table(columns, cells, empty="")


def _print_bills(bills: list[dict[str, Any]]) -> None:
    priced = any("cost" in one for one in bills)
    columns = (
        *("MONTH", "TENANT", "CALLS", "BEYOND FREE", "GB-S", "BEYOND FREE"),
        *("INSTANCE VCPU-S", "INSTANCE GB-S", *(("COST",) if priced else ())),
    )
    cells = [
        (
            *(one["month"], _name(one), one["calls"], one["billable_calls"], f"{one['gb_s']:.3f}"),
            *(f"{one['billable_gb_s']:.3f}", f"{one['instances']['vcpu_s']:.3f}", f"{one['instances']['gb_s']:.3f}"),
            *((f"{one['cost']:.2f}",) if priced else ()),
        )
        for one in bills
    ]
    output.print_table(columns, cells, empty="")


def _name(row: dict[str, Any]) -> str:
    return str(row["tenant_name"] or row["tenant"])
