"""The real server as a process of its own, for tests of the whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from alcove.cli.client import Client
from alcove.host.files import instance_tag

START_S = 300


class Server:
    """``alcove serve`` on a free port with a state folder; ``kill`` is kill -9, ``stop`` is SIGTERM."""

    def __init__(self, state: Path, run: Path, *options: str) -> None:
        self.state, self.run = state.resolve(), run
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.log = run / "server.log"

    @property
    def tag(self) -> str:
        return instance_tag(self.state)

    def start(self) -> Server:
        self.run.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(
                        str(Path(sys.executable).with_name("alcove")),
                        "serve",
                        "--listen",
                        "127.0.0.1:0",
                        "--s3-listen",
                        "127.0.0.1:0",
                    ),
                    *("--state", str(self.state), "--run", str(self.run), *self.options),
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.tail()}")
            try:
                self.call("GET", "/alcove/v1/health")
            except Exception:
                time.sleep(0.1)
            else:
                return self
        raise AssertionError(f"the server did not start: {self.tail()}")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return Client(self.run).call(method, path, body) if body is not None else Client(self.run).call(method, path)

    def environment(self) -> dict[str, str]:
        return dict(self.call("GET", "/alcove/v1/env"))

    def client(self, service: str = "lambda", **config: Any) -> Any:
        """A client of boto3's that tries each call once."""
        env = self.environment()
        return boto3.client(
            service,
            endpoint_url=env[f"AWS_ENDPOINT_URL_{service.upper()}"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name=env["AWS_REGION"],
            config=Config(retries={"max_attempts": 0}, read_timeout=120, **config),
        )

    def instances(self) -> list[dict[str, Any]]:
        return list(self.call("GET", "/alcove/v1/instances")["instances"])

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def leftovers(self) -> dict[str, list[str]]:
        """Return all that this instance has on the machine, by kind; empty lists when it has stopped."""
        machines = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    # By executable: a test's own command line may name the state folder too.
                    if "qemu" in os.readlink(folder / "exe") and str(self.state / "jail") in os.readlink(
                        folder / "root"
                    ):
                        machines.append(folder.name)
                except OSError:
                    continue
        cgroups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/alcove-{self.tag}/*") if path.is_dir()]
        cgroups += [str(path) for path in Path("/sys/fs/cgroup").glob(f"alcove-{self.tag}/*") if path.is_dir()]
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.state) in line]
        return {
            "machines": machines,
            "cgroups": cgroups,
            "mounts": mounts,
            "namespaces": [path.name for path in Path("/run/netns").glob(f"alcove-{self.tag}*")],
            "links": [path.name for path in Path("/sys/class/net").glob(f"alc{self.tag}*")],
            "records": [path.name for path in (self.state / "sandboxes").glob("s-*")],
            "sockets": [path.name for path in self.run.glob("*.sock")],
        }


def is_clean(leftovers: dict[str, list[str]]) -> bool:
    return json.dumps(leftovers) == json.dumps({kind: [] for kind in leftovers})
