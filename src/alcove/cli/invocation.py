"""One call of a function by the control API, and what its answer's headers say."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, urlencode

from alcove.cli.client import FUNCTIONS, Answer, Client
from alcove.errors import AlcoveError
from alcove.wire import eventstream

STREAMS = "/2021-11-15/functions"


@dataclass(frozen=True, slots=True)
class Call:
    """An answered call. ``error`` is None, or ``Handled`` or ``Unhandled`` where it failed."""

    payload: bytes
    error: str | None
    start: str
    why: str
    sandbox: str
    version: str
    request_id: str
    phases_ms: dict[str, float]
    total_ms: float
    log: str

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        document["payload"] = _json_or_text(self.payload)
        document["total_ms"] = round(self.total_ms, 2)
        return document

    def summary(self) -> str:
        """One line: how it started, why, where, and in what time."""
        phases = ", ".join(f"{name} {ms:.1f}" for name, ms in self.phases_ms.items())
        why = f" ({self.why})" if self.why else ""
        times = f": {phases}" if phases else ""
        return f"{self.start}{why} in {self.sandbox}, {self.total_ms:.1f} ms{times}"


def accept(client: Client, name: str, payload: bytes, *, qualifier: str = "") -> str:
    """Have the function called later; return the request's id once it is on the server's disk."""
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    headers = {"Content-Type": "application/json", "X-Amz-Invocation-Type": "Event"}
    path = f"{FUNCTIONS}/{quote(name, safe='')}/invocations{query}"
    return client.request("POST", path, payload, headers=headers).headers.get("x-amzn-requestid", "")


def call(client: Client, name: str, payload: bytes, *, qualifier: str = "", log: bool = False) -> Call:
    """Invoke and wait for the answer. A function that fails still answers: see ``Call.error``."""
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    headers = {"Content-Type": "application/json"}
    if log:
        headers["X-Amz-Log-Type"] = "Tail"
    path = f"{FUNCTIONS}/{quote(name, safe='')}/invocations{query}"
    began = time.perf_counter()
    answer = client.request("POST", path, payload, headers)
    return read_call(answer, (time.perf_counter() - began) * 1000)


def stream(
    client: Client, name: str, payload: bytes, sink: Callable[[bytes], None], *, qualifier: str = "", log: bool = False
) -> dict[str, str]:
    """Invoke; ``sink`` gets the answer as the function makes it. Return how it ended: ``ErrorCode`` and
    ``ErrorDetails`` where it failed, ``LogResult``, decoded, where it was asked for.
    """
    query = "?" + urlencode({"Qualifier": qualifier}) if qualifier else ""
    headers = {"Content-Type": "application/json", **({"X-Amz-Log-Type": "Tail"} if log else {})}
    decoder = eventstream.Decoder()
    ending: list[dict[str, str]] = []

    def received(data: bytes) -> None:
        for message in decoder.feed(data):
            if message.headers.get(":event-type") == "PayloadChunk":
                sink(message.payload)
            else:
                ending.append(json.loads(message.payload))

    client.request(
        "POST",
        f"{STREAMS}/{quote(name, safe='')}/response-streaming-invocations{query}",
        payload,
        headers,
        received=received,
    )
    if not ending:
        raise AlcoveError("the answer broke off", hint="see the server's log")
    found = ending[-1]
    if "LogResult" in found:
        found["LogResult"] = base64.b64decode(found["LogResult"]).decode(errors="replace")
    return found


def read_call(answer: Answer, total_ms: float) -> Call:
    headers = answer.headers
    start, why = read_start(headers.get("x-alcove-start", ""))
    return Call(
        payload=answer.body,
        error=headers.get("x-amz-function-error"),
        start=start,
        why=why,
        sandbox=headers.get("x-alcove-sandbox", ""),
        version=headers.get("x-amz-executed-version", ""),
        request_id=headers.get("x-amzn-requestid", ""),
        phases_ms=read_phases(headers.get("x-alcove-phases", "")),
        total_ms=total_ms,
        log=base64.b64decode(headers.get("x-amz-log-result", "")).decode(errors="replace"),
    )


def read_start(header: str) -> tuple[str, str]:
    """``restored; why=no idle instance`` -> (restored, no idle instance)."""
    mode, _, rest = header.partition(";")
    return mode.strip(), rest.strip().removeprefix("why=").strip('"')


def read_phases(header: str) -> dict[str, float]:
    """``state=8.1,agent=20`` -> {state: 8.1, agent: 20.0}; what is not a number is left out."""
    phases = {}
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        try:
            phases[name] = float(value)
        except ValueError:
            continue
    return phases


def _json_or_text(payload: bytes) -> Any:
    try:
        return json.loads(payload) if payload else None
    except ValueError:
        return payload.decode(errors="replace")
