"""How people write the source of a mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alcove.cli.client import Client
from alcove.cli.targets import queue_arn
from alcove.errors import InvalidRequest

# What stands in front, what of it the API has, and the API's names for server and stream or queue.
_KINDS = {
    "redis": ("", "REDIS_SERVERS", "Topics"),
    "rediss": ("rediss://", "REDIS_SERVERS", "Topics"),
    "rabbitmq": ("", "RABBITMQ_BROKERS", "Queues"),
    "amqps": ("amqps://", "RABBITMQ_BROKERS", "Queues"),
}


def source_of(
    client: Client, source: str, *, user: str | None, virtual_host: str | None, ca: Path | None
) -> dict[str, Any]:
    """Read ``queue:NAME``, ``redis://HOST:PORT/STREAM``, ``rabbitmq://HOST:PORT/QUEUE``, ``rediss://``, ``amqps://``."""
    if source.startswith("arn:"):
        return {"EventSourceArn": source}
    if source.startswith("queue:"):
        return {"EventSourceArn": queue_arn(client, source.removeprefix("queue:"))}
    kind, _, rest = source.partition("://")
    endpoint, _, name = rest.partition("/")
    if kind not in _KINDS or not name:
        raise InvalidRequest(
            f"{source} names no source", hint="write queue:NAME, redis://HOST:PORT/STREAM or rabbitmq://HOST:PORT/QUEUE"
        )
    scheme, servers, names = _KINDS[kind]
    given = {"BASIC_AUTH": user, "VIRTUAL_HOST": virtual_host, "SERVER_ROOT_CA_CERTIFICATE": _read(ca)}
    return {
        "SelfManagedEventSource": {"Endpoints": {servers: [scheme + endpoint]}},
        names: [name],
        "SourceAccessConfigurations": [{"Type": kind, "URI": text} for kind, text in given.items() if text],
    }


def _read(ca: Path | None) -> str:
    if ca is None:
        return ""
    try:
        return ca.read_text()
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{ca} cannot be read: {error}", hint="--ca names a PEM file") from error


def name_of(one: dict[str, Any]) -> str:
    """Return the source of a mapping, as it is written."""
    if "EventSourceArn" in one:
        return "queue:" + str(one["EventSourceArn"]).rpartition(":")[2]
    ((key, (endpoint,)),) = one["SelfManagedEventSource"]["Endpoints"].items()
    if "://" not in endpoint:
        endpoint = ("redis://" if key == "REDIS_SERVERS" else "rabbitmq://") + endpoint
    return f"{endpoint}/{(one.get('Topics') or one.get('Queues') or [''])[0]}"
