"""Queues, functions and buckets as commands name them (``queue:NAME``), and as the API does (ARNs)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from alcove.cli.client import FUNCTIONS, Client
from alcove.errors import InvalidRequest


def sqs(client: Client, operation: str, document: dict[str, Any]) -> dict[str, Any]:
    """Call the SQS API. Raises what ``Client.request`` does."""
    found = client.call("POST", "/", document, extra={"X-Amz-Target": f"AmazonSQS.{operation}"})
    return dict(found)


def queue_arn(client: Client, name: str) -> str:
    document = {"QueueUrl": f"/{name}", "AttributeNames": ["QueueArn"]}
    return str(sqs(client, "GetQueueAttributes", document)["Attributes"]["QueueArn"])


def arn(client: Client, text: str) -> str:
    """Return the ARN of what is named; an ARN, or nothing, as it is."""
    kind, colon, name = text.partition(":")
    if not text or kind in ("arn", "brn"):
        return text
    if colon and kind == "queue":
        return queue_arn(client, name)
    if colon and kind == "bucket":
        return f"arn:aws:s3:::{name}"
    if colon and kind == "function":
        function, _, qualifier = name.partition(":")
        found = client.call("GET", f"{FUNCTIONS}/{quote(function, safe='')}/configuration")
        return str(found["FunctionArn"]) + (f":{qualifier}" if qualifier else "")
    raise InvalidRequest(f"{text} names no destination", hint="write queue:NAME, function:NAME, bucket:NAME or an ARN")
