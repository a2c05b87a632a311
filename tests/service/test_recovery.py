"""kill -9 of the server and of machines: what ran is adopted, the rest reaped, nothing left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
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
    own = Server(
        state, tmp_path / "run", "--pool-nodejs", "0", "--pool-provided", "0", "--metrics-listen", "127.0.0.1:0"
    )
    own.start()
    yield own
    if own.process is not None and own.process.poll() is not None:
        own.start()
    own.stop()
    assert is_clean(own.leftovers()), own.leftovers()


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
    aws = own.client()
    create(aws, "lives")
    token = invoke(aws, "lives")
    before = {instance["sandbox"] for instance in own.instances()}
    own.kill()
    assert own.leftovers()["machines"], "the machine died with the server"
    own.start()
    assert {instance["sandbox"] for instance in own.instances()} == before
    assert invoke(own.client(), "lives") == token
    # Each call is counted once, each change has its line, and both survive.
    assert [(row["function"], row["calls"]) for row in own.call("GET", "/alcove/v1/usage")["usage"]] == [("lives", 2)]
    changes = [line["operation"] for line in own.call("GET", "/alcove/v1/audit")["lines"]]
    assert changes == ["aws.create_function"]
    with urllib.request.urlopen(f"http://{own.call('GET', '/alcove/v1/health')['metrics']}/metrics") as answer:
        assert 'alcove_starts_total{cause="an instance was idle",start="warm"} 1.0' in answer.read().decode()


def test_a_server_killed_at_any_moment_leaves_nothing_behind(own: Server) -> None:
    aws = own.client()
    create(aws, "often")
    for delay in (0.0, 0.05, 0.15, 0.4):
        pid = os.fork()
        if pid == 0:
            try:
                invoke(own.client(), "often")
            finally:
                os._exit(0)
        time.sleep(delay)
        own.kill()
        os.waitpid(pid, 0)
        own.start()
        assert invoke(own.client(), "often")
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


def test_accepted_events_their_outcomes_and_messages_outlive_the_server(own: Server) -> None:
    aws, sqs = own.client(), own.client("sqs")
    create(aws, "later")
    outcomes = sqs.create_queue(QueueName="outcomes")["QueueUrl"]
    work = sqs.create_queue(QueueName="work")["QueueUrl"]
    arns = [
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        for url in (outcomes, work)
    ]
    aws.put_function_event_invoke_config(
        FunctionName="later", DestinationConfig={"OnSuccess": {"Destination": arns[0]}}
    )
    accepted = []
    for number in range(3):
        answer = aws.invoke(FunctionName="later", InvocationType="Event", Payload=b"{}")
        assert answer["StatusCode"] == 202
        accepted.append(answer["ResponseMetadata"]["RequestId"])
        sqs.send_message(QueueUrl=work, MessageBody=str(number))
    aws.create_event_source_mapping(EventSourceArn=arns[1], FunctionName="later", BatchSize=1)
    own.kill()
    own.start()
    sqs = own.client("sqs")
    urls = [sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in ("outcomes", "work")]
    told: list[str] = []
    deadline = time.monotonic() + 120
    while len(told) < len(accepted):
        assert time.monotonic() < deadline, told
        got = sqs.receive_message(QueueUrl=urls[0], MaxNumberOfMessages=10, WaitTimeSeconds=10).get("Messages", [])
        told += [json.loads(one["Body"])["requestContext"]["requestId"] for one in got]
    assert sorted(told) == sorted(accepted)
    while True:
        counts = sqs.get_queue_attributes(QueueUrl=urls[1], AttributeNames=["All"])["Attributes"]
        if counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0":
            break
        assert time.monotonic() < deadline, counts
        time.sleep(0.2)


def test_a_killed_machine_is_replaced(own: Server) -> None:
    aws = own.client()
    create(aws, "dies")
    token = invoke(aws, "dies")
    for pid in own.leftovers()["machines"]:
        os.kill(int(pid), signal.SIGKILL)
    assert invoke(aws, "dies") != token


def saved(own: Server, kind: str) -> set[str]:
    return {path.name for path in (own.state / kind).glob("*/manifest.json") for path in [path.parent]}


def test_what_is_of_no_more_use_is_removed(own: Server) -> None:
    """Snapshots go with their version, and at the next start all that an older engine has left."""
    aws = own.client()
    create(aws, "tidy")
    for number in (1, 2):
        aws.publish_version(FunctionName="tidy")
        aws.update_function_configuration(FunctionName="tidy", MemorySize=256 * number)
    first, second = (
        aws.get_function_configuration(FunctionName="tidy", Qualifier=number)["SnapStart"] for number in ("1", "2")
    )
    assert first["OptimizationStatus"] == second["OptimizationStatus"] == "On"
    assert len(saved(own, "snapshots")) == 2
    aws.delete_function(FunctionName="tidy", Qualifier="1")
    (kept,) = saved(own, "snapshots")
    templates, images = saved(own, "templates"), {path.name for path in (own.state / "images/guest").glob("[!.]*")}
    own.stop()
    for folder in ("templates", "snapshots"):
        shutil.copytree(own.state / "snapshots" / kept, own.state / folder / "of-an-older-engine", copy_function=sparse)
    own.start()
    assert saved(own, "snapshots") == {kept}
    assert saved(own, "templates") == templates
    assert {path.name for path in (own.state / "images/guest").glob("[!.]*")} == images
    own.client().delete_function(FunctionName="tidy")
    assert not saved(own, "snapshots")


def test_a_damaged_snapshot_is_taken_anew(own: Server) -> None:
    aws = own.client()
    create(aws, "again")
    aws.publish_version(FunctionName="again")
    own.stop()
    (key,) = saved(own, "snapshots")
    state = own.state / "snapshots" / key / "state"
    state.write_bytes(b"damaged" + state.read_bytes()[7:])
    own.start()
    aws = own.client()
    cold = aws.invoke(FunctionName="again", Qualifier="1")["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"]
    assert "snapshot" not in cold
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = aws.get_function_configuration(FunctionName="again", Qualifier="1")
        if found["SnapStart"]["OptimizationStatus"] == "On":
            break
        time.sleep(0.2)
    own.stop()
    own.start()
    cold = own.client().invoke(FunctionName="again", Qualifier="1")["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"]
    assert "snapshot" in cold


def sparse(source: str, target: str) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


def test_a_damaged_template_is_made_anew(own: Server) -> None:
    own.stop()
    for memory in (own.state / "templates").glob("*/memory"):
        with memory.open("r+b") as file:
            file.seek(1 << 20)
            file.write(b"damage" * 1000)
    own.start()
    assert "was altered" in own.tail()
    aws = own.client()
    create(aws, "still")
    assert invoke(aws, "still")
