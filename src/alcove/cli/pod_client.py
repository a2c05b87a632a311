"""What the commands for instances ask of the server."""

from __future__ import annotations

import contextlib
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

from alcove.cli import output
from alcove.cli.client import Client
from alcove.errors import AlcoveError, NotFound

PODS = "/alcove/v1/pods"
# Waiting reasons that no time heals by itself, for who waits for a first start.
HOPELESS = (
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"),
    *("CreateContainerConfigError", "CreateContainerError"),
)
_POLL_S = 0.1
_WHOLE = 1000
# As shells say it of a program that is not there.
NOT_STARTED = 127
_HEAD = struct.Struct(">B3xI")


def path(name: str, *more: str, **query: object) -> str:
    """Return the path of an instance or of what is below it; ``query`` without what is None or empty."""
    base = "/".join([PODS, quote(name, safe=""), *more])
    given = {key: value for key, value in query.items() if value is not None and value is not False and value != ""}
    return f"{base}?{urlencode({k: 'true' if v is True else v for k, v in given.items()})}" if given else base


def every(client: Client) -> Iterator[dict[str, Any]]:
    after = ""
    while page := client.call("GET", f"{PODS}?{urlencode({'after': after, 'limit': 500})}")["items"]:
        yield from page
        after = page[-1]["metadata"]["name"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod["status"]
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def await_start(client: Client, name: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Wait until a container has begun; ``tell`` hears of what happens. Raises ``AlcoveError`` where none can."""
    told: set[str] = set()
    with Pulling() as pulling:
        return _await_start(client, name, told, tell, pulling)


class Pulling:
    """A bar on a terminal while an image is fetched; elsewhere nothing."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._image = ""
        self._bar: output.Bar = lambda done: None

    def __enter__(self) -> Pulling:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def show(self, pulling: dict[str, Any] | None) -> None:
        image = str(pulling["image"]) if pulling is not None else ""
        if image != self._image:
            self._image = image
            self._stack.close()
            if image and sys.stderr.isatty():
                self._bar = self._stack.enter_context(output.progress(f"pulling {image}", _WHOLE))
        if pulling is not None and pulling["total"]:
            self._bar(_WHOLE * pulling["done"] // pulling["total"])


def _await_start(
    client: Client, name: str, told: set[str], tell: Callable[[str], None], pulling: Pulling
) -> dict[str, Any]:
    while True:
        pod: dict[str, Any] = client.call("GET", path(name))
        pulling.show(pod["alcove"].get("pulling"))
        if pod["status"]["phase"] != "Pending":
            return pod
        for event in client.call("GET", path(name, "events"))["items"]:
            if event["reason"] in ("Pulling", "Pulled") and event["message"] not in told:
                told.add(event["message"])
                tell(event["message"])
            if event["reason"] == "FailedMount":
                raise AlcoveError(f"a volume cannot be mounted: {event['message']}", hint="see --volume")
            if event["reason"] == "FailedCreatePodSandBox":
                raise AlcoveError(f"the sandbox cannot be made: {event['message']}", hint="see the server's log")
        for one in containers(pod):
            waiting = one["state"].get("waiting", {})
            if waiting.get("reason") in HOPELESS:
                raise AlcoveError(f"{waiting['reason']}: {waiting.get('message', '')}", hint="check the image's name")
        time.sleep(_POLL_S)


def follow(client: Client, name: str, **query: object) -> None:
    """Write what a container prints to our own stdout and stderr, as it comes."""
    client.request("GET", path(name, "logs", format="frames", **query), received=Demultiplexer())


def exit_code(client: Client, name: str) -> int:
    """Wait for the end; return the first container's exit code."""
    while True:
        pod = client.call("GET", path(name))
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            ended = pod["status"]["containerStatuses"][0]["state"].get("terminated", {})
            if ended.get("reason") == "StartError":
                print(f"error: {ended.get('message', 'the program cannot be started')}", file=sys.stderr)
                return NOT_STARTED
            return int(ended.get("exitCode", 1))
        time.sleep(_POLL_S)


def remove(client: Client, name: str, *, grace_s: int | None = None, wait: bool = True) -> None:
    client.call("DELETE", path(name, grace=grace_s))
    while wait:
        try:
            client.call("GET", path(name))
        except NotFound:
            return
        time.sleep(_POLL_S)


class Demultiplexer:
    """Takes the pieces of a framed log; each goes to its stream."""

    def __init__(self) -> None:
        self._buffer = b""

    def __call__(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            stream, length = _HEAD.unpack_from(self._buffer)
            if len(self._buffer) < _HEAD.size + length:
                return
            text, self._buffer = (
                self._buffer[_HEAD.size : _HEAD.size + length],
                self._buffer[_HEAD.size + length :],
            )
            out = sys.stderr.buffer if stream == 2 else sys.stdout.buffer
            out.write(text)
            out.flush()
