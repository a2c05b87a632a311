"""The node service's socket: one line each way, bounded, for its owner alone."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from alcove.errors import CapacityError, Conflict, InvalidRequest, NotFound, SandboxError
from alcove.pods import socket as pods_socket
from alcove.pods.socket import PodSocket

FAILURES = {
    "not_found": NotFound("x", hint="look"),
    "exists": Conflict("x"),
    "capacity": CapacityError("x"),
    "invalid": InvalidRequest("x"),
    "failed": SandboxError("x"),
}


async def carry_out(request: dict[str, Any]) -> Any:
    if request.get("op") in FAILURES:
        raise FAILURES[request["op"]]
    return {"echo": request}


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "pods.sock"
    served = PodSocket(path, carry_out)
    await served.open()
    yield path
    await served.close()
    assert not path.exists()


async def ask(path: Path, line: bytes) -> Any:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 22)
    writer.write(line)
    try:
        answer = await reader.read()
    finally:
        writer.close()
    return json.loads(answer) if answer else None


async def test_a_line_is_answered_by_a_line(door: Path) -> None:
    assert stat.S_IMODE(os.stat(door).st_mode) == 0o600
    assert await ask(door, b'{"op": "pods"}\n') == {"ok": {"echo": {"op": "pods"}}}


@pytest.mark.parametrize("code", FAILURES)
async def test_errors_have_their_codes(door: Path, code: str) -> None:
    answer = await ask(door, json.dumps({"op": code}).encode() + b"\n")
    assert answer["error"]["code"] == code
    assert answer["error"]["hint"] == FAILURES[code].hint


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"[" * 100_000 + b"\n", b"\xff\n"])
async def test_what_is_no_request_is_invalid(door: Path, line: bytes) -> None:
    assert (await ask(door, line))["error"]["code"] == "invalid"


async def test_a_request_is_bounded(door: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await ask(door, b'"' + b"a" * (pods_socket.LONGEST_REQUEST + 10) + b'"\n')
    assert answer["error"]["code"] == "invalid"
    monkeypatch.setattr(pods_socket, "REQUEST_S", 0.05)
    async with asyncio.timeout(2):
        assert await ask(door, b"half a line") is None
