"""``alcove policy``: the isolation rules, and what follows from them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import function_names, qualifiers, tenant_names
from alcove.cli.options import json_option, run_option

POLICY = "/alcove/v1/policy"


@click.group()
def group() -> None:
    """Which isolation tier a function runs in, and why.

    The strongest demand holds: of the five cases of the rules (development and test code, code that the automatic
    checks flagged, languages without a safe sandbox, tenants that ask for it, an own kernel), of the floors, of the
    function's tag alcove:isolation, of the rules' default.
    """


@group.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a rules file, for `alcove serve --isolation-rules FILE`.

    \b
    Example:
      alcove policy check rules.toml

    \b
    A rules file with all that can be in it:
      default = "process"             # vm where it is left out, as are all others
      [development]                   # case 1
      isolation = "vm"
      latest = true                   # what is not published
      tags = ["stage=dev*"]           # NAME=VALUE, with * and ?
      environment = ["STAGE=test"]
      aliases = ["dev", "test"]
      [checks]                        # case 2: also what is not checked yet
      severity = "medium"             # low, medium, high: from here on
      [[checks.scanners]]             # beside bandit, eslint: status 0 clean, 1 a finding a line
      name = "lint"
      files = ["*.php"]
      command = ["/opt/lint/bin/lint", "."]
      needs = ["/opt/lint"]
      [languages]                     # case 3: every runtime but these
      safe = ["nodejs*"]
      [tenants]                       # case 4, by name or id
      names = ["bank-*"]
    """
    from alcove.policy.rules_file import load_rules

    rules = load_rules(file)
    tiers = sorted(rules.tiers())
    if as_json:
        output.print_json({"file": str(file), "tiers": tiers})
    else:
        click.echo(f"{file} is right; it names the tiers {', '.join(tiers)}")


@group.command()
@click.option("--install", is_flag=True, help="Install what is missing beside Alcove's Python; needs npm.")
@json_option
def scanners(install: bool, as_json: bool) -> None:
    """List the scanners that the automatic checks have here, and what each reads.

    The rules file may name more. A source that none reads counts as flagged.

    \b
    Examples:
      alcove policy scanners
      alcove policy scanners --install
    """
    from alcove.policy import javascript
    from alcove.policy.scanners import bandit_version

    if install:
        javascript.install()
    eslint = javascript.installed()
    found = [
        {"name": "bandit", "reads": "Python", "installed": bool(bandit_version())},
        {"name": "eslint", "reads": "JavaScript", "installed": eslint},
    ]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], one["reads"], "yes" if one["installed"] else "no") for one in found]
    output.print_table(("SCANNER", "READS", "INSTALLED"), rows, empty="")
    if not eslint:
        output.note(f"to install it: {javascript.INSTALL}")


@group.command()
@click.argument("name", shell_complete=function_names)
@click.option("--qualifier", shell_complete=qualifiers, help="A version; without it, $LATEST.")
@run_option
@json_option
def explain(name: str, qualifier: str | None, run: Path, as_json: bool) -> None:
    """Say what demands isolation of a function; the first line holds.

    \b
    Example:
      alcove policy explain hello --qualifier 3
    """
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    found = Client(run).call("GET", f"/alcove/v1/functions/{quote(name, safe='')}/policy{query}")
    if as_json:
        output.print_json(found)
        return
    click.echo(f"{found['function']}:{found['version']} runs in {found['isolation']}: {found['reason']}")
    rows = [
        (one["isolation"], one["case"] + (f" ({one['number']})" if one["number"] else ""), one["reason"])
        for one in found["demands"]
    ]
    output.print_table(("ISOLATION", "CASE", "REASON"), rows, empty="nothing is demanded")


@group.command()
@run_option
@json_option
def show(run: Path, as_json: bool) -> None:
    """Show the rules and the floor that the server runs with.

    \b
    Example:
      alcove policy show
    """
    found = Client(run).call("GET", POLICY)
    if as_json:
        output.print_json(found)
        return
    click.echo(f"default: {found['rules']['default']}; floor: {found['floor']}; offered: {', '.join(found['tiers'])}")
    for tier, why in found["unavailable"].items():
        click.echo(f"not offered: {tier}: {why}")
    sections = {case: dict(section) for case, section in found["rules"].items() if isinstance(section, dict)}
    rows = [
        (case, section.pop("isolation"), ", ".join(f"{key}={value}" for key, value in section.items()))
        for case, section in sections.items()
    ]
    output.print_table(("CASE", "ISOLATION", "WHERE"), rows, empty="no case is in the rules: the default holds")


@group.command()
@click.argument("tier", required=False, type=click.Choice(["vm", "gvisor", "process"]))
@click.option("--tenant", shell_complete=tenant_names, help="A tenant's name or id; without it, the default tenant.")
@run_option
@json_option
def floor(tier: str | None, tenant: str | None, run: Path, as_json: bool) -> None:
    """Show or set the weakest tier that a tenant's functions may run in; process sets none.

    \b
    Examples:
      alcove policy floor vm --tenant bank
      alcove policy floor --tenant bank
    """
    headers = {"Content-Type": "application/json", **({"X-Alcove-Tenant": tenant} if tenant else {})}
    body = b'{"floor": "%s"}' % tier.encode() if tier else b""
    found = Client(run).request("PUT" if tier else "GET", f"{POLICY}/floor", body, headers).json()
    if as_json:
        output.print_json(found)
    else:
        click.echo(f"floor: {found['floor']}")
