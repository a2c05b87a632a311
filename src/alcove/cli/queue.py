"""``alcove queue``: durable queues, as boto3's ``sqs`` sees them too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from alcove.cli import output
from alcove.cli.client import Client
from alcove.cli.naming import queue_names
from alcove.cli.options import json_option, run_option
from alcove.cli.targets import queue_arn, sqs

_COUNT = "ApproximateNumberOfMessages"
_STATES = ("", "NotVisible", "Delayed")


@click.group()
def group() -> None:
    """Make queues, send and receive messages."""


def _settings(given: dict[str, int | None]) -> dict[str, str]:
    names = {
        "visibility": "VisibilityTimeout",
        "delay": "DelaySeconds",
        "retention": "MessageRetentionPeriod",
        "wait": "ReceiveMessageWaitTimeSeconds",
    }
    return {names[option]: str(value) for option, value in given.items() if option in names and value is not None}


@group.command()
@click.argument("name", shell_complete=queue_names)
@click.option("--visibility", type=int, metavar="S", help="Seconds that a received message is hidden (30 without it).")
@click.option("--delay", type=int, metavar="S", help="Seconds before a sent message can be received.")
@click.option("--retention", type=int, metavar="S", help="Seconds that a message is kept (4 days without it).")
@click.option("--wait", type=int, metavar="S", help="Seconds that receiving waits by default.")
@click.option(
    "--dead-letter", metavar="QUEUE", shell_complete=queue_names, help="The queue for messages that nobody deletes."
)
@click.option("--content-dedup", is_flag=True, help="FIFO: equal bodies within five minutes are one message.")
@click.option("--max-receives", type=int, default=5, show_default=True, help="Receives before a message goes there.")
@run_option
@json_option
def create(
    name: str,
    dead_letter: str | None,
    content_dedup: bool,
    max_receives: int,
    run: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Make the queue NAME, or change the one that is there. A name that ends with .fifo makes a FIFO queue.

    \b
    Examples:
      alcove queue create failed
      alcove queue create orders --visibility 60 --dead-letter failed --max-receives 3
      alcove queue create steps.fifo --content-dedup
    """
    client, attributes = Client(run), _settings(given)
    if dead_letter:
        policy = {"deadLetterTargetArn": queue_arn(client, dead_letter), "maxReceiveCount": max_receives}
        attributes["RedrivePolicy"] = json.dumps(policy)
    if content_dedup:
        attributes["ContentBasedDeduplication"] = "true"
    kind = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    made = sqs(client, "CreateQueue", {"QueueName": name, "Attributes": kind})
    if attributes:
        sqs(client, "SetQueueAttributes", {"QueueUrl": made["QueueUrl"], "Attributes": attributes})
    if as_json:
        output.print_json(made)
    else:
        click.echo(f"queue {name} is at {made['QueueUrl']}")


@group.command("list")
@run_option
@json_option
def list_command(run: Path, as_json: bool) -> None:
    """List the queues, with the messages in them.

    \b
    Example:
      alcove queue list
    """
    client = Client(run)
    urls = sqs(client, "ListQueues", {}).get("QueueUrls", [])
    found = []
    for url in urls:
        attributes = sqs(client, "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]})["Attributes"]
        found.append({"Name": url.rpartition("/")[2], "QueueUrl": url, **attributes})
    if as_json:
        output.print_json(found)
        return
    rows = [
        (one["Name"], *(one[_COUNT + state] for state in _STATES), f"{one['VisibilityTimeout']} s") for one in found
    ]
    columns = ("NAME", "WAITING", "IN FLIGHT", "DELAYED", "VISIBILITY")
    output.print_table(columns, rows, empty="no queue yet; make one with: alcove queue create NAME")


@group.command()
@click.argument("name", shell_complete=queue_names)
@run_option
@json_option
def show(name: str, run: Path, as_json: bool) -> None:
    """Show what is set of a queue, and its ARN.

    \b
    Example:
      alcove queue show orders
    """
    document = {"QueueUrl": f"/{name}", "AttributeNames": ["All"]}
    found = sqs(Client(run), "GetQueueAttributes", document)["Attributes"]
    if as_json:
        output.print_json(found)
        return
    for key, value in found.items():
        click.echo(f"{key + ':':<40}{value}")


@group.command()
@click.argument("name", shell_complete=queue_names)
@click.argument("body")
@click.option("--delay", type=int, metavar="S", help="Seconds before it can be received.")
@click.option("--group", help="FIFO: messages of a group come in order.")
@click.option("--dedup-id", help="FIFO: sent again within five minutes, it is the same message.")
@run_option
@json_option
def send(
    name: str, body: str, delay: int | None, group: str | None, dedup_id: str | None, run: Path, as_json: bool
) -> None:
    """Send a message.

    \b
    Examples:
      alcove queue send orders '{"item": 7}'
      alcove queue send steps.fifo '{"step": 2}' --group order-7 --dedup-id order-7-2
    """
    document: dict[str, Any] = {"QueueUrl": f"/{name}", "MessageBody": body}
    if delay is not None:
        document["DelaySeconds"] = delay
    if group is not None:
        document["MessageGroupId"] = group
    if dedup_id is not None:
        document["MessageDeduplicationId"] = dedup_id
    sent = sqs(Client(run), "SendMessage", document)
    if as_json:
        output.print_json(sent)
    else:
        click.echo(sent["MessageId"])


@group.command()
@click.argument("name", shell_complete=queue_names)
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 10), help="Messages at most.")
@click.option("--wait", default=0, show_default=True, type=click.IntRange(0, 20), metavar="S", help="Seconds to wait.")
@click.option("--keep", is_flag=True, help="Leave them in the queue: they come again.")
@run_option
@json_option
def receive(name: str, count: int, wait: int, keep: bool, run: Path, as_json: bool) -> None:
    """Receive messages, print and delete them.

    \b
    Examples:
      alcove queue receive orders --wait 20
      alcove queue receive failed --count 10 --keep --json
    """
    client, url = Client(run), f"/{name}"
    document = {
        "QueueUrl": url,
        "MaxNumberOfMessages": count,
        "WaitTimeSeconds": wait,
        "MessageAttributeNames": ["All"],
        "MessageSystemAttributeNames": ["All"],
    }
    messages = sqs(client, "ReceiveMessage", document).get("Messages", [])
    if as_json:
        output.print_json(messages)
    else:
        for message in messages:
            click.echo(message["Body"])
        if not messages:
            output.note("no message is there")
    for message in messages:
        handle = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
        if keep:
            sqs(client, "ChangeMessageVisibility", {**handle, "VisibilityTimeout": 0})
        else:
            sqs(client, "DeleteMessage", handle)


@group.command()
@click.argument("name", shell_complete=queue_names)
@run_option
def purge(name: str, run: Path) -> None:
    """Delete every message of a queue.

    \b
    Example:
      alcove queue purge failed
    """
    sqs(Client(run), "PurgeQueue", {"QueueUrl": f"/{name}"})
    click.echo(f"purged {name}")


@group.command()
@click.argument("name", shell_complete=queue_names)
@run_option
def delete(name: str, run: Path) -> None:
    """Delete a queue with its messages.

    \b
    Example:
      alcove queue delete orders
    """
    sqs(Client(run), "DeleteQueue", {"QueueUrl": f"/{name}"})
    click.echo(f"deleted {name}")
