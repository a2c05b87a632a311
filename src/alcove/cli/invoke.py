"""``alcove fn invoke``: call a function and say how it started."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from alcove.cli import exits, output
from alcove.cli.client import Client
from alcove.cli.invocation import accept, call, stream
from alcove.cli.naming import function_names, qualifiers
from alcove.cli.options import json_option, run_option
from alcove.errors import InvalidRequest


@click.command()
@click.argument("name", shell_complete=function_names)
@click.argument("payload", default="{}")
@click.option("--qualifier", default="", shell_complete=qualifiers, help="A version; without it, $LATEST.")
@click.option("--logs", is_flag=True, help="Print the end of what the function printed, on stderr.")
@click.option("--async", "later", is_flag=True, help="Have it called later; do not wait for the answer.")
@click.option("--stream", "streamed", is_flag=True, help="Print the answer as the function makes it.")
@click.option("--quiet", "-q", is_flag=True, help="Print the function's answer only.")
@run_option
@json_option
def invoke(
    name: str,
    payload: str,
    qualifier: str,
    logs: bool,
    later: bool,
    streamed: bool,
    quiet: bool,
    run: Path,
    as_json: bool,
) -> None:
    """Call NAME with PAYLOAD: JSON, @FILE, or - for stdin. The answer goes to stdout.

    How it started and in what time goes to stderr. Exits with 1 where the function failed.

    \b
    Examples:
      alcove fn invoke hello '{"name": "Ada"}'
      alcove fn invoke report @event.json --qualifier 3 --logs
      echo '{}' | alcove fn invoke hello - --json
      alcove fn invoke report @event.json --async
      alcove fn invoke chat '{"say": "hello"}' --stream
    """
    if streamed and (later or as_json):
        raise click.UsageError("--stream goes with neither --async nor --json")
    if ":" in name and not qualifier:
        name, _, qualifier = name.partition(":")
    if later:
        request_id = accept(Client(run), name, _payload(payload), qualifier=qualifier)
        if as_json:
            output.print_json({"request_id": request_id})
        else:
            click.echo(f"accepted {request_id}")
        return
    if streamed:
        _stream(Client(run), name, _payload(payload), qualifier, logs=logs)
        return
    answered = call(Client(run), name, _payload(payload), qualifier=qualifier, log=logs or as_json)
    if as_json:
        output.print_json(answered.to_json())
    else:
        sys.stdout.buffer.write(answered.payload + b"\n")
        sys.stdout.flush()
        if logs and answered.log:
            click.echo(answered.log, err=True, nl=not answered.log.endswith("\n"))
        if not quiet:
            output.note(answered.summary())
    if answered.error:
        if not as_json:
            output.note(f"error: the function failed ({answered.error.lower()})")
        sys.exit(exits.FUNCTION_FAILED)


def _stream(client: Client, name: str, payload: bytes, qualifier: str, *, logs: bool) -> None:
    def show(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    ending = stream(client, name, payload, show, qualifier=qualifier, log=logs)
    if logs and ending.get("LogResult"):
        click.echo(ending["LogResult"], err=True, nl=not ending["LogResult"].endswith("\n"))
    if "ErrorCode" in ending:
        output.note(f"error: the function failed ({ending['ErrorCode'].lower()}): {ending.get('ErrorDetails', '')}")
        sys.exit(exits.FUNCTION_FAILED)


def _payload(text: str) -> bytes:
    if text == "-":
        data = sys.stdin.buffer.read()
    elif text.startswith("@"):
        try:
            data = Path(text[1:]).read_bytes()
        except OSError as error:
            raise InvalidRequest(f"{text[1:]} can't be read: {error.strerror}") from error
    else:
        data = text.encode()
    try:
        json.loads(data)
    except ValueError as error:
        raise InvalidRequest(
            f"the payload is not JSON: {error}", hint="quote it for the shell, or use @FILE"
        ) from error
    return data
