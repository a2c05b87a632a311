"""``alcove fn deploy``: a folder or zip becomes a function, or a function's new code."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from alcove.cli import output
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.options import json_option, run_option
from alcove.cli.package import Packed, folder_size, pack
from alcove.errors import AlcoveError, InvalidRequest, NotFound

# AWS demands a role of each function; Alcove has none to give, so it names nobody.
ROLE = "arn:aws:iam::000000000000:role/none"
READY_TIMEOUT_S = 600.0
_POLL_S = 0.2


@click.command(no_args_is_help=True)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="The function's name; without it, the folder's or file's.")
@click.option("--runtime", help="python3.11, nodejs18.x, java17, php8.2 or provided. Needed for a new function.")
@click.option("--handler", help="What is called, such as app.handler. Needed for a new function.")
@click.option("--memory", type=int, metavar="MIB", help="Memory in MiB (128 without it).")
@click.option("--tmp", type=int, metavar="MIB", help="Size of /tmp in MiB, 512 (without it) to 10240.")
@click.option("--log-format", type=click.Choice(["Text", "JSON"]), help="How its log lines are written.")
@click.option("--timeout", type=int, metavar="S", help="Seconds that a call may take (3 without it).")
@click.option("--env", "pairs", multiple=True, metavar="K=V", help="Environment; may be repeated.")
@click.option("--isolation", help="vm, gvisor or process; rules: what the isolation rules say (the default).")
@click.option("--kernel", metavar="NAME", help="A kernel of its own (alcove kernel list), or none.")
@click.option("--network/--no-network", default=None, help="A network, or none. With one by default.")
@click.option("--fresh-vm/--no-fresh-vm", default=None, help="A new machine for every call, or not (the default).")
@click.option("--instance-concurrency", type=int, metavar="N", help="Calls in one machine at once, 1 to 100.")
@click.option(
    "--reserved-concurrency", metavar="N|none", help="Calls set aside for it, and its limit; 0 lets none run."
)
@click.option("--provisioned", type=int, metavar="N", help="Machines of the version kept ready; with --publish.")
@click.option("--layer", "layers", multiple=True, metavar="ARN", help="A layer version, at /opt; may be repeated.")
@click.option("--no-layers", is_flag=True, help="Drop the layers that it has.")
@click.option("--publish", is_flag=True, help="Publish a version: it starts from a snapshot.")
@click.option("--description", help="A line about it.")
@run_option
@json_option
def deploy(source: Path, name: str | None, run: Path, as_json: bool, **given: Any) -> None:
    """Create the function in SOURCE (a folder or a zip), or give the existing one this code.

    A folder is packed without .git, __pycache__ and what its .alcoveignore names.

    \b
    Examples:
      alcove fn deploy ./hello --runtime python3.11 --handler app.handler
      alcove fn deploy ./hello --memory 512 --env STAGE=test --publish
      alcove fn deploy build/report.zip --name report --runtime nodejs18.x --handler index.handler
      alcove fn deploy ./hello --publish --provisioned 2 --reserved-concurrency 10
    """
    reserved = _reserved(given["reserved_concurrency"])
    if given["provisioned"] is not None and not given["publish"]:
        raise InvalidRequest("--provisioned needs --publish", hint="machines are kept ready for versions, not $LATEST")
    name = name or (source.resolve().name if source.is_dir() else source.stem)
    fields = _fields(given)
    client = Client(run)
    exists = _exists(client, name)
    if not exists and not (given["runtime"] and given["handler"]):
        raise InvalidRequest(
            f"{name} is a new function: --runtime and --handler are needed",
            hint="such as --runtime python3.11 --handler app.handler",
        )
    packed = _pack(source)
    _send(client, name, packed, fields, create=not exists)
    configuration = _wait(client, name)
    if given["publish"]:
        output.note("publishing a version and taking its snapshot ...")
        configuration = client.call("POST", f"{FUNCTIONS}/{quote(name)}/versions", {})
        configuration = _wait(client, name, str(configuration["Version"]))
    _set_concurrency(client, name, str(configuration.get("Version", "")), reserved, given["provisioned"])
    if as_json:
        output.print_json(configuration)
        return
    verb = "updated" if exists else "created"
    version = configuration.get("Version", "$LATEST")
    click.echo(f"{verb} {name} (version {version}, {output.size(len(packed.data))} zipped)")
    output.note(f"call it with: alcove fn invoke {name}")


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    names = {
        "runtime": "Runtime",
        "handler": "Handler",
        "memory": "MemorySize",
        "timeout": "Timeout",
        "isolation": "Isolation",
        "network": "Network",
        "kernel": "Kernel",
        "fresh_vm": "FreshVm",
        "instance_concurrency": "InstanceConcurrency",
        "description": "Description",
    }
    fields = {key: given[option] for option, key in names.items() if given[option] is not None}
    if given["layers"] or given["no_layers"]:
        fields["Layers"] = list(given["layers"])
    if given["tmp"] is not None:
        fields["EphemeralStorage"] = {"Size": given["tmp"]}
    if given["log_format"] is not None:
        fields["LoggingConfig"] = {"LogFormat": given["log_format"]}
    if given["pairs"]:
        fields["Environment"] = {"Variables": dict(map(_pair, given["pairs"]))}
    return fields


def _reserved(text: str | None) -> int | None:
    """Return what is to be reserved; -1 for ``none``, None for no change."""
    if text is None or text == "none":
        return None if text is None else -1
    if not text.isascii() or not text.isdigit():
        raise InvalidRequest(f"--reserved-concurrency {text}: a number or none is wanted", hint="such as 10")
    return int(text)


def _set_concurrency(client: Client, name: str, version: str, reserved: int | None, provisioned: int | None) -> None:
    if reserved == -1:
        client.request("DELETE", f"/2017-10-31/functions/{quote(name)}/concurrency")
    elif reserved is not None:
        document = {"ReservedConcurrentExecutions": reserved}
        client.call("PUT", f"/2017-10-31/functions/{quote(name)}/concurrency", document)
    if provisioned is not None:
        path = f"/2019-09-30/functions/{quote(name)}/provisioned-concurrency?Qualifier={quote(version)}"
        client.call("PUT", path, {"ProvisionedConcurrentExecutions": provisioned})


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InvalidRequest(f"--env {text}: K=V is wanted", hint="such as --env STAGE=test")
    return key, value


def _exists(client: Client, name: str) -> bool:
    try:
        client.call("GET", f"{FUNCTIONS}/{quote(name, safe='')}")
    except NotFound:
        return False
    return True


def _pack(source: Path) -> Packed:
    with output.progress(f"packing {source}", folder_size(source)) as bar:
        packed = pack(source, bar)
    what = f"{packed.files} files, " if packed.files is not None else ""
    output.note(f"packed {what}{output.size(len(packed.data))}")
    return packed


def _send(client: Client, name: str, packed: Packed, fields: dict[str, Any], *, create: bool) -> None:
    code = base64.b64encode(packed.data).decode()
    with output.progress(f"sending {output.size(len(packed.data))}", len(code)) as bar:
        if create:
            document = {"FunctionName": name, "Role": ROLE, "Code": {"ZipFile": code}, **fields}
            client.call("POST", FUNCTIONS, document, sent=bar)
            return
        path = f"{FUNCTIONS}/{quote(name)}"
        if fields:
            client.call("PUT", f"{path}/configuration", fields)
            _wait(client, name)
        client.call("PUT", f"{path}/code", {"ZipFile": code}, sent=bar)


def _wait(client: Client, name: str, version: str | None = None) -> dict[str, Any]:
    """Wait until the function can be called; return its configuration."""
    query = f"?Qualifier={quote(version)}" if version else ""
    give_up = time.monotonic() + READY_TIMEOUT_S
    told = ""
    while True:
        found = client.call("GET", f"{FUNCTIONS}/{quote(name)}{query}")
        configuration: dict[str, Any] = found.get("Configuration", {})
        states = (configuration.get("State", "Active"), configuration.get("LastUpdateStatus"))
        if "Failed" in states:
            why = configuration.get("StateReason") or configuration.get("LastUpdateStatusReason")
            raise AlcoveError(f"{name} could not be made ready: {why or 'no reason was given'}")
        if states[0] == "Active" and states[1] in (None, "Successful"):
            return configuration
        why = str(configuration.get("StateReason") or "")
        if why != told:
            output.note(why)
            told = why
        if time.monotonic() > give_up:
            raise AlcoveError(f"{name} is still not ready", hint=f"look later: alcove fn show {name}")
        time.sleep(_POLL_S)
