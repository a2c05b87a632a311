"""Names that a shell completes: functions, versions and aliases, instances, queues, tenants, buckets.

They are asked of the server that runs, one page, in a second at most. Where there is none, or it will not say, nothing
is completed, and nothing is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import click
from click.shell_completion import CompletionItem

from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.options import DEFAULT_RUN
from alcove.cli.pod_client import PODS

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Find = Callable[[Path, click.Context, str], list[str]]
TIMEOUT_S = 1.0
NAMES_LIMIT = 50


def _completing(find: Find) -> Complete:
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            found = find(_run(context), context, begun)
        except Exception:
            # A shell's prompt is no place for what went wrong.
            return []
        return [CompletionItem(name) for name in found if name.startswith(begun)][:NAMES_LIMIT]

    return complete


def _run(context: click.Context) -> Path:
    return Path(context.params.get("run") or os.environ.get("ALCOVE_RUN") or DEFAULT_RUN)


def _client(run: Path) -> Client:
    return Client(run, timeout_s=TIMEOUT_S)


def _functions(run: Path, context: click.Context, begun: str) -> list[str]:
    """Of many functions the page that begins with what was typed; after a colon, what the name leads to."""
    name, colon, _ = begun.partition(":")
    if colon:
        return [f"{name}:{one}" for one in _leads(run, name)]
    page = _client(run).call("GET", f"{FUNCTIONS}?{urlencode({'Marker': _before(begun)})}")
    return [str(one["FunctionName"]) for one in page["Functions"]]


def _before(begun: str) -> str:
    """Return the greatest text that comes before all that begin so."""
    return f"{begun[:-1]}{chr(ord(begun[-1]) - 1)}~" if begun else ""


def _leads(run: Path, name: str) -> list[str]:
    """Return a function's aliases and versions, the newest last."""
    path = f"{FUNCTIONS}/{quote(name, safe='')}"
    found = [str(one["Name"]) for one in _client(run).call("GET", f"{path}/aliases")["Aliases"]]
    return found + [str(one["Version"]) for one in _client(run).call("GET", f"{path}/versions")["Versions"]]


def _qualifiers(run: Path, context: click.Context, begun: str) -> list[str]:
    """Of the function that the command names already."""
    # What is completed is an option without its value: then click leaves the arguments as they are.
    name = context.params.get("function") or context.params.get("name") or next(iter(context.args), "")
    return _leads(run, str(name).partition(":")[0]) if name else []


def _aliases(run: Path, context: click.Context, begun: str) -> list[str]:
    return [one for one in _qualifiers(run, context, begun) if not one.isdigit() and one != "$LATEST"]


def _versions(run: Path, context: click.Context, begun: str) -> list[str]:
    return [one for one in _qualifiers(run, context, begun) if one.isdigit()]


def _instances(run: Path, context: click.Context, begun: str) -> list[str]:
    query = urlencode({"after": _before(begun), "limit": NAMES_LIMIT})
    return [str(one["metadata"]["name"]) for one in _client(run).call("GET", f"{PODS}?{query}")["items"]]


def instance_paths(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete ``NAME:``, or a file of this host where no instance begins so."""
    if ":" in begun or "/" in begun:
        return [] if ":" in begun else [CompletionItem(begun, type="file")]
    found = instance_names(context, parameter, begun)
    return [CompletionItem(f"{one.value}:") for one in found] or [CompletionItem(begun, type="file")]


def _queues(run: Path, context: click.Context, begun: str) -> list[str]:
    from alcove.cli.targets import sqs

    found = sqs(_client(run), "ListQueues", {"QueueNamePrefix": begun} if begun else {})
    return [str(url).rpartition("/")[2] for url in found.get("QueueUrls", ())]


def _tenants(run: Path, context: click.Context, begun: str) -> list[str]:
    return [str(one["name"]) for one in _client(run).call("GET", "/alcove/v1/tenants")["tenants"]]


def _buckets(run: Path, context: click.Context, begun: str) -> list[str]:
    from alcove.cli.bucket_client import BucketClient, texts

    return texts(BucketClient(run, timeout_s=TIMEOUT_S).document("GET"), "Name")


def _targets(run: Path, context: click.Context, begun: str) -> list[str]:
    """Complete ``queue:NAME``, ``function:NAME`` and ``bucket:NAME``."""
    kind, colon, name = begun.partition(":")
    if not colon:
        return [f"{one}:" for one in _TARGETS]
    return [f"{kind}:{one}" for one in _TARGETS[kind](run, context, name)]


_TARGETS: dict[str, Find] = {"queue": _queues, "function": _functions, "bucket": _buckets}

function_names = _completing(_functions)
qualifiers = _completing(_qualifiers)
alias_names = _completing(_aliases)
version_numbers = _completing(_versions)
instance_names = _completing(_instances)
queue_names = _completing(_queues)
tenant_names = _completing(_tenants)
bucket_names = _completing(_buckets)
target_names = _completing(_targets)
