"""``alcove doctor``: what this machine can do, what it lacks, and the command that mends it."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from alcove import __version__
from alcove.cli import exits, output
from alcove.cli.options import DEFAULT_RUN, json_option, run_option, state_option
from alcove.errors import AlcoveError
from alcove.host.checks import Check, cgroup_mode, check_host, check_port
from alcove.settings import load_settings

TIERS = ("vm", "gvisor", "process")


@click.command()
@state_option
@run_option
@click.option("--listen", metavar="HOST:PORT", help="The address that the server would use.")
@json_option
def doctor(state: Path, run: Path, listen: str | None, as_json: bool) -> None:
    """Say what this machine can do: accelerator and why, tiers, versions, disk, memory.

    Changes nothing but a note of what the accelerator's probe found. Exits with 1 where something
    is missing, and says what mends it.

    \b
    Examples:
      alcove doctor
      alcove doctor --json
    """
    report = examine(state, run, listen)
    if as_json:
        output.print_json(report)
    else:
        _print(report)
    sys.exit(exits.OK if report["ok"] else exits.FUNCTION_FAILED)


def examine(state: Path, run: Path = DEFAULT_RUN, listen: str | None = None) -> dict[str, Any]:
    """Return the whole report, as ``--json`` prints it."""
    import os

    address = load_settings(environment=os.environ, flags={"listen": listen} if listen else {}).listen
    running = _server_runs(run)
    checks = check_host(state)
    if not running and address.port:
        checks.append(check_port(*address))
    return {
        "ok": all(check.ok for check in checks),
        "version": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cgroups": cgroup_mode(),
        "server": "running" if running else "not running",
        "accelerator": _accelerator(state),
        "tiers": {tier: _tier(tier, checks) for tier in TIERS},
        "guest_image": _guest_image(state),
        "checks": [asdict(check) for check in checks],
    }


def _accelerator(state: Path) -> dict[str, Any]:
    from alcove.vmm.accelerator import probe

    try:
        found = probe(state)
    except OSError as error:
        return {
            "kind": "unknown",
            "reason": f"the probe failed: {error}",
            "seen": [],
            "cached": False,
        }
    return {
        "kind": str(found.kind),
        "reason": found.reason,
        "seen": list(found.seen),
        "cached": found.cached,
    }


def _tier(tier: str, checks: list[Check]) -> dict[str, Any]:
    missing = [c.name for c in checks if not c.ok and (tier in c.needed_by or "all" in c.needed_by)]
    return {"works": not missing, "missing": missing}


def _guest_image(state: Path) -> str | None:
    from alcove.images.guest import find_guest_image

    try:
        image = find_guest_image(state / "images")
    except OSError:
        return None
    return image.digest if image else None


def _server_runs(run: Path) -> bool:
    from alcove.cli.client import Client

    try:
        Client(run).request("GET", "/alcove/v1/health")
    except exits.ServerUnreachable:
        return False
    except AlcoveError:
        return True
    return True


def _print(report: dict[str, Any]) -> None:
    accelerator = report["accelerator"]
    click.echo(f"alcove {report['version']}, Python {report['python']}, Linux {report['kernel']}")
    click.echo(f"server: {report['server']}\n")
    click.echo(f"accelerator: {accelerator['kind']}")
    click.echo(f"  why: {accelerator['reason']}{' (remembered)' if accelerator['cached'] else ''}")
    for line in accelerator["seen"]:
        click.echo(f"  saw: {line}")
    click.echo("\nisolation tiers")
    for name, tier in report["tiers"].items():
        missing = f"no: {', '.join(tier['missing'])}"
        click.echo(f"  {name:<10}{'works' if tier['works'] else missing}")
    image = report["guest_image"]
    click.echo(f"guest image: {image[:12] if image else 'not built yet (alcove image build)'}\n")
    for check in report["checks"]:
        click.echo(f"  {'ok' if check['ok'] else 'MISSING':<9}{check['name']:<20}{check['found']}")
    broken = [check for check in report["checks"] if not check["ok"]]
    click.echo("\nnothing is missing" if not broken else "\nto mend it:")
    for check in broken:
        click.echo(f"  {check['name']}: {check['mend']}")
