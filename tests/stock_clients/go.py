"""Baidu's stock clients of CFC and BCI for Go, as a process that is told what to call.

Built once into ``build/stock-clients``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.stock_runtimes.build import run

SOURCE = Path(__file__).parent / "cfc_go"
TARGET = Path(__file__).parents[2] / "build/stock-clients"


class Refused(Exception):
    """The client's error: what the service said, or (``status`` 0) its own checks."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["Message"])
        self.code, self.status, self.request_id = error["Code"], error["Status"], error["RequestId"]


def build() -> Path:
    """Return the program. Workers of one test run wait for each other here."""
    TARGET.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))).hexdigest()
    program = TARGET / f"cfc-{digest[:12]}"
    with (TARGET / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            unfinished = TARGET / ".cfc"
            flags = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
            run("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", unfinished, ".", cwd=SOURCE, **flags)
            unfinished.rename(program)
    return program


class GoClient:
    """``client("GetFunction", {...})`` calls that method of the stock client; a context manager."""

    def __init__(self, endpoint: str, access_key: str, secret: str, service: str = "cfc") -> None:
        argv = [build(), endpoint, access_key, secret, service]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.methods = frozenset(json.loads(self._process.stdout.readline()))

    def __enter__(self) -> GoClient:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(10) == 0

    def __call__(self, method: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": method, "args": arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer.get("error"):
            raise Refused(answer["error"])
        return answer.get("result")
