"""The functions of the demo and the calls made of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import report
from server import DemoError, Server

from alcove.cli.client import FUNCTIONS as FUNCTIONS_PATH
from alcove.cli.invocation import Call


@dataclass(frozen=True)
class Function:
    """``folder`` names the example; ``proof`` is a key that its answer must have."""

    name: str
    folder: str
    runtime: str
    handler: str
    memory_mib: int
    proof: str
    rounds: int  # of cold and of pooled starts: fewer where the init code is slow
    warm_calls: int  # fewer where a call starts ten programs


FUNCTIONS = (
    Function("totals", "python-pandas", "python3.11", "app.handler", 512, "groups", 1, 10),
    Function("markdown", "node-markdown", "nodejs18.x", "index.handler", 256, "html", 2, 10),
    Function("digest", "provided-shell", "provided", "function.digest", 128, "sha256", 2, 3),
)


@dataclass
class Caller:
    """Makes calls of one kind after another, checks each answer and keeps what its headers say."""

    server: Server
    examples: Path
    made: list[tuple[Function, str, Call]] = field(default_factory=list)
    _round: int = 0

    def event(self, function: Function) -> bytes:
        return (self.examples / function.folder / "event.json").read_bytes()

    def deploy(self, function: Function, packages: Path) -> None:
        self.server.command(
            "fn", "deploy", str(packages / function.folder), "--name", function.name,
            "--runtime", function.runtime, "--handler", function.handler,
            "--memory", str(function.memory_mib), "--timeout", "60",
            "--description", "demo",
            "--run", str(self.server.run),
        )  # fmt: skip
        report.step(f"deployed {function.name} ({function.runtime}, from {function.folder})")

    def cold(self, function: Function) -> None:
        self._call(function, "cold", {"restored", "booted"})
        self.snapshot(function)
        for _ in range(function.rounds - 1):
            self._retire(function)
            self._call(function, "cold", {"restored", "booted"})

    def snapshot(self, function: Function) -> None:
        """Publish a version: its first call starts from the memory saved after its init code."""
        answered = self._call_published(function)
        if report.mode(answered) != "snapshot":
            raise DemoError(f"{function.name} was {answered.start} ({answered.why}), not a snapshot")
        self.note(function, "cold, published", answered)
        report.step(f"{function.name}, cold, published: {answered.summary()}")

    def _call_published(self, function: Function) -> Call:
        path = f"{FUNCTIONS_PATH}/{function.name}"
        version = str(self.server.client.call("POST", f"{path}/versions", {})["Version"])
        ready = f"{path}?Qualifier={version}"
        while self.server.client.call("GET", ready)["Configuration"].get("State") == "Pending":
            time.sleep(0.1)
        return self.server.call(function.name, self.event(function), version)

    def pooled(self, function: Function) -> None:
        for number in range(function.rounds):
            if number:
                self._retire(function)
            self.server.wait_for_pools()
            self._call(function, "from the pool", {"mounted"})

    def warm(self, function: Function) -> None:
        for _ in range(function.warm_calls):
            self._call(function, "warm", {"warm"})

    def note(self, function: Function, kind: str, answered: Call) -> None:
        """Check the answer and keep the call."""
        if answered.error:
            raise DemoError(f"{function.name} failed ({kind}): {answered.payload.decode()}")
        answer = json.loads(answered.payload)
        if function.proof not in answer:
            raise DemoError(f"{function.name} answered {answered.payload[:200]!r} ({kind})")
        self.made.append((function, kind, answered))

    def _call(self, function: Function, kind: str, modes: set[str]) -> None:
        answered = self.server.call(function.name, self.event(function))
        self.note(function, kind, answered)
        if answered.start not in modes:
            raise DemoError(f"{function.name} was {answered.start} ({answered.why}), not {' or '.join(modes)}")
        if kind != "warm" or self.made[-2][1] != "warm":
            report.step(f"{function.name}, {kind}: {answered.summary()}")

    def _retire(self, function: Function) -> None:
        """Change the configuration, so that the idle instance is of no more use."""
        self._round += 1
        document = {"Description": f"demo, round {self._round}"}
        path = f"{FUNCTIONS_PATH}/{function.name}/configuration"
        self.server.client.call("PUT", path, document)
