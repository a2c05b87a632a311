"""``alcove mapping``: functions called by what arrives in queues and streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import function_names, target_names
from alcove.cli.options import json_option, run_option
from alcove.cli.sources import name_of, source_of
from alcove.cli.targets import arn

MAPPINGS = "/2015-03-31/event-source-mappings"


@click.group()
def group() -> None:
    """Have functions called by queues and streams."""


@group.command()
@click.argument("source", shell_complete=target_names)
@click.argument("function", shell_complete=function_names)
@click.option("--batch", type=int, help="Messages of a call at most.")
@click.option("--window", type=int, metavar="S", help="Seconds to wait for a batch to fill.")
@click.option("--concurrency", type=int, help="Batches in the function at once, at most.")
@click.option("--partial/--whole", default=None, help="The function may say which messages failed (batchItemFailures).")
@click.option("--retries", type=int, help="Tries again of what failed; without it, no end (Redis, RabbitMQ).")
@click.option(
    "--on-failure",
    metavar="TARGET",
    shell_complete=target_names,
    help="Where given-up batches go: queue:NAME, function:NAME, an ARN.",
)
@click.option(
    "--filter", "filters", multiple=True, metavar="JSON", help="Only messages that match; several can be given."
)
@click.option("--from-start", is_flag=True, help="Begin at the oldest entry of a stream, not at what comes now.")
@click.option("--user", metavar="USER:PASSWORD", envvar="ALCOVE_SOURCE_USER", help="For Redis or RabbitMQ.")
@click.option("--virtual-host", help="RabbitMQ's; / without it.")
@click.option("--ca", type=click.Path(path_type=Path), help="PEM file of who signs the server's certificate (TLS).")
@click.option("--disabled", is_flag=True, help="Make it, and read nothing yet.")
@run_option
@json_option
def add(
    source: str,
    function: str,
    on_failure: str | None,
    from_start: bool,
    user: str | None,
    virtual_host: str | None,
    ca: Path | None,
    disabled: bool,
    run: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Call FUNCTION with what arrives at SOURCE: queue:NAME, or redis://, rabbitmq:// (by TLS: rediss://, amqps://).

    \b
    Examples:
      alcove mapping add queue:orders handle-order --batch 5 --partial
      alcove mapping add redis://10.1.2.3:6379/clicks count --user :secret --retries 3 --on-failure queue:failed
      alcove mapping add rabbitmq://10.1.2.4:5672/mails send-mail --user mailer:secret
      alcove mapping add rediss://cache.example.net:6380/clicks count --ca our-ca.pem
      alcove mapping add queue:orders handle-large --filter '{"body": {"total": [{"numeric": [">", 1000]}]}}'
    """
    client = Client(run)
    place = source_of(client, source, user=user, virtual_host=virtual_host, ca=ca)
    document = {"FunctionName": function, "Enabled": not disabled, **place}
    document |= _options(given)
    if from_start:
        document["StartingPosition"] = "TRIM_HORIZON"
    if on_failure:
        document["DestinationConfig"] = {"OnFailure": {"Destination": arn(client, on_failure)}}
    made = client.call("POST", MAPPINGS, document)
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"mapping {made['UUID']} calls {function}")


def _options(given: dict[str, Any]) -> dict[str, Any]:
    names = {"batch": "BatchSize", "window": "MaximumBatchingWindowInSeconds", "retries": "MaximumRetryAttempts"}
    document = {names[option]: value for option, value in given.items() if option in names and value is not None}
    if given["concurrency"] is not None:
        document["ScalingConfig"] = {"MaximumConcurrency": given["concurrency"]}
    if given["filters"]:
        # An empty one takes the filters away.
        document["FilterCriteria"] = {"Filters": [{"Pattern": one} for one in given["filters"] if one]}
    if given["partial"] is not None:
        document["FunctionResponseTypes"] = ["ReportBatchItemFailures"] if given["partial"] else []
    return document


@group.command("list")
@click.option("--function", shell_complete=function_names, help="Those of this function only.")
@run_option
@json_option
def list_command(function: str | None, run: Path, as_json: bool) -> None:
    """List the mappings, their states and what came of the last batch.

    \b
    Example:
      alcove mapping list
    """
    client, found, marker = Client(run), [], ""
    while marker is not None:
        query = {"Marker": marker, **({"FunctionName": function} if function else {})}
        page = client.call("GET", f"{MAPPINGS}?{urlencode(query)}")
        found += page["EventSourceMappings"]
        marker = page.get("NextMarker")
    if as_json:
        output.print_json(found)
        return
    rows = [(one["UUID"], name_of(one), _function(one), one["State"], one["LastProcessingResult"]) for one in found]
    columns = ("ID", "SOURCE", "FUNCTION", "STATE", "LAST RESULT")
    output.print_table(columns, rows, empty="no mapping yet; see: alcove mapping add")


def _function(one: dict[str, Any]) -> str:
    return str(one["FunctionArn"]).partition(":function:")[2]


@group.command()
@click.argument("uuid")
@run_option
def show(uuid: str, run: Path) -> None:
    """Show a mapping as JSON.

    \b
    Example:
      alcove mapping show 5f6c3a52-7c1e-4d0e-9a25-0f6b6f0c1f3e
    """
    output.print_json(Client(run).call("GET", f"{MAPPINGS}/{quote(uuid, safe='')}"))


@group.command()
@click.argument("uuid")
@click.option("--enable/--disable", default=None, help="Read, or read nothing; what is in the function ends.")
@click.option("--batch", type=int, help="Messages of a call at most.")
@click.option("--window", type=int, metavar="S", help="Seconds to wait for a batch to fill.")
@click.option("--concurrency", type=int, help="Batches in the function at once, at most.")
@click.option("--partial/--whole", default=None, help="The function may say which messages failed.")
@click.option("--retries", type=int, help="Tries again of what failed.")
@click.option("--filter", "filters", multiple=True, metavar="JSON", help="In place of those there; '' for none.")
@run_option
@json_option
def update(uuid: str, enable: bool | None, run: Path, as_json: bool, **given: Any) -> None:
    """Change a mapping.

    \b
    Examples:
      alcove mapping update 5f6c3a52-7c1e-4d0e-9a25-0f6b6f0c1f3e --disable
      alcove mapping update 5f6c3a52-7c1e-4d0e-9a25-0f6b6f0c1f3e --batch 1
      alcove mapping update 5f6c3a52-7c1e-4d0e-9a25-0f6b6f0c1f3e --filter ''
    """
    document = _options(given)
    if enable is not None:
        document["Enabled"] = enable
    changed = Client(run).call("PUT", f"{MAPPINGS}/{quote(uuid, safe='')}", document)
    if as_json:
        output.print_json(changed)
    else:
        click.echo(f"mapping {uuid}: {changed['State']}")


@group.command()
@click.argument("uuid")
@run_option
def remove(uuid: str, run: Path) -> None:
    """Remove a mapping; messages stay where they are.

    \b
    Example:
      alcove mapping remove 5f6c3a52-7c1e-4d0e-9a25-0f6b6f0c1f3e
    """
    Client(run).call("DELETE", f"{MAPPINGS}/{quote(uuid, safe='')}")
    click.echo(f"removed {uuid}")
