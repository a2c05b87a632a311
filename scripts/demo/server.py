"""The server as a child of the demo: started, waited for, stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from alcove.cli.client import Client
from alcove.cli.exits import ServerUnreachable
from alcove.cli.invocation import Call, call

ALCOVE = Path(sys.executable).with_name("alcove")
# The first start builds templates by booting machines, under emulation perhaps.
START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 60.0
POOL_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 900.0
LOG_TAIL_LINES = 40


class DemoError(Exception):
    """What the demo shows does not work."""


class Server:
    """``alcove serve`` on a free port, with its state and log under ``home``."""

    def __init__(self, home: Path) -> None:
        self.state = home / "state"
        self.run = home / "run"
        self.log_path = home / "server.log"
        self.client = Client(self.run)
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path.write_bytes(b"")

    def start(self, *, pool: int) -> None:
        """Start it and wait until it answers; show what it logs meanwhile."""
        shown = self.log_path.stat().st_size
        with self.log_path.open("ab") as log:
            argv = [ALCOVE, "serve", "--state", self.state, "--run", self.run]
            argv += ["--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--pool", str(pool)]
            self._process = subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        began = time.monotonic()
        while not self._answers():
            shown = self._show_log(shown)
            if self._process.poll() is not None:
                raise DemoError(f"the server ended with status {self._process.returncode}")
            if time.monotonic() - began > START_TIMEOUT_S:
                raise DemoError(f"the server did not answer within {START_TIMEOUT_S:.0f} s")
            time.sleep(0.1)
        print(f"  server ready in {time.monotonic() - began:.1f} s (pool of {pool})", flush=True)
        if pool:
            self.wait_for_pools()

    def wait_for_pools(self) -> None:
        """Wait until each pool holds what it should."""
        give_up = time.monotonic() + POOL_TIMEOUT_S
        while time.monotonic() < give_up:
            pools = self.client.call("GET", "/alcove/v1/health").get("pools", [])
            if all(pool["ready"] >= pool["target"] for pool in pools):
                return
            time.sleep(0.05)
        raise DemoError(f"the pools did not fill within {POOL_TIMEOUT_S:.0f} s")

    def stop(self, *, quietly: bool = False) -> None:
        """End it by SIGTERM. Raise ``DemoError`` if it does not end well, unless ``quietly``."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            if not quietly:
                raise DemoError("the server did not stop on SIGTERM") from error
            return
        if status and not quietly:
            raise DemoError(f"the server ended with status {status}")

    def command(self, *arguments: str, show: bool = False) -> str:
        """Run an ``alcove`` command; return what it prints. ``show`` lets it print here instead."""
        argv = [str(ALCOVE), *arguments]
        pipe = None if show else subprocess.PIPE
        done = subprocess.run(argv, stdout=pipe, stderr=pipe, text=True, timeout=COMMAND_TIMEOUT_S)
        if done.returncode:
            raise DemoError(f"alcove {' '.join(arguments[:3])} failed: {(done.stderr or '').strip()}")
        return done.stdout or ""

    def call(self, name: str, payload: bytes, qualifier: str = "") -> Call:
        return call(self.client, name, payload, qualifier=qualifier)

    def environment(self) -> dict[str, str]:
        found: dict[str, Any] = json.loads(self.command("env", "--run", str(self.run), "--json"))
        return {name: str(value) for name, value in found.items()}

    def log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _answers(self) -> bool:
        try:
            self.client.request("GET", "/alcove/v1/health")
        except ServerUnreachable:
            return False
        return True

    def _show_log(self, shown: int) -> int:
        with self.log_path.open("rb") as log:
            log.seek(shown)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.decode(errors="replace").splitlines():
            print(f"  | {line}", flush=True)
        return shown + len(whole)
