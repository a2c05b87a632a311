"""kill -9 of the server and of machines: what ran is adopted, the rest reaped, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.conftest import STATE, package
from tests.service.server import Server, is_clean

SOURCE = "import os\nTOKEN = os.urandom(8).hex()\n\ndef handler(event, context):\n    return TOKEN\n"


@pytest.fixture
def own(tmp_path: Path, server: Server) -> Iterator[Server]:
    """A server of the test's own, whose guest image and templates are those of the shared one."""
    state = tmp_path / "state"
    for folder in ("images/guest", "templates"):
        (state / folder).parent.mkdir(parents=True, exist_ok=True)
        # A template's memory is 3 GiB with 150 MiB in it: it must stay sparse.
        subprocess.run(["cp", "-a", "--sparse=always", STATE / folder, state / folder], check=True)
    own = Server(state, tmp_path / "run", "--pool-nodejs", "0", "--pool-provided", "0")
    own.start()
    yield own
    if own.process is not None and own.process.poll() is not None:
        own.start()
    own.stop()
    assert is_clean(own.leftovers()), own.leftovers()


def client(server: Server) -> Any:
    import boto3
    from botocore.config import Config

    env = server.environment()
    return boto3.client(
        "lambda",
        endpoint_url=env["AWS_ENDPOINT_URL_LAMBDA"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
        config=Config(retries={"max_attempts": 0}, read_timeout=120),
    )


def create(aws: Any, name: str) -> None:
    aws.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        MemorySize=1024,
        Timeout=20,
        Code={"ZipFile": package({"app.py": SOURCE})},
    )


def invoke(aws: Any, name: str) -> str:
    return str(json.loads(aws.invoke(FunctionName=name)["Payload"].read()))


def test_machines_outlive_the_server_and_are_adopted(own: Server) -> None:
    aws = client(own)
    create(aws, "lives")
    token = invoke(aws, "lives")
    before = {instance["sandbox"] for instance in own.instances()}
    own.kill()
    assert own.leftovers()["machines"], "the machine died with the server"
    own.start()
    assert {instance["sandbox"] for instance in own.instances()} == before
    assert invoke(client(own), "lives") == token


def test_a_server_killed_at_any_moment_leaves_nothing_behind(own: Server) -> None:
    aws = client(own)
    create(aws, "often")
    for delay in (0.0, 0.05, 0.15, 0.4):
        pid = os.fork()
        if pid == 0:
            try:
                invoke(client(own), "often")
            finally:
                os._exit(0)
        time.sleep(delay)
        own.kill()
        os.waitpid(pid, 0)
        own.start()
        assert invoke(client(own), "often")
    records = set(own.leftovers()["records"])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        leftovers = own.leftovers()
        records = set(leftovers["records"])
        if {Path(cgroup).name for cgroup in leftovers["cgroups"]} <= records and len(leftovers["machines"]) == len(
            records
        ):
            break
        time.sleep(0.2)
    assert {Path(cgroup).name for cgroup in leftovers["cgroups"]} <= records
    assert len(leftovers["machines"]) == len(records)


def test_a_killed_machine_is_replaced(own: Server) -> None:
    aws = client(own)
    create(aws, "dies")
    token = invoke(aws, "dies")
    for pid in own.leftovers()["machines"]:
        os.kill(int(pid), signal.SIGKILL)
    assert invoke(aws, "dies") != token


def test_a_damaged_template_is_made_anew(own: Server) -> None:
    own.stop()
    for memory in (own.state / "templates").glob("*/memory"):
        with memory.open("r+b") as file:
            file.seek(1 << 20)
            file.write(b"damage" * 1000)
    own.start()
    assert "was altered" in own.tail()
    aws = client(own)
    create(aws, "still")
    assert invoke(aws, "still")
