"""Reserved and provisioned concurrency, with stock clients over the real server."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from tests.parity.conftest import HELLO, ROLE, Platform

from alcove.cli.app import root
from alcove.cli.client import Client
from alcove.errors import InvalidRequest


def make(aws: Any, name: str, handler: str = "sleep") -> str:
    aws.create_function(
        FunctionName=name, Runtime="python3.11", Role=ROLE, Handler=handler, Timeout=10, Code={"ZipFile": HELLO}
    )
    return name


def test_reserved_concurrency_is_set_read_and_removed(aws: Any, function: str) -> None:
    before = aws.get_account_settings()["AccountLimit"]
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName=function)
    put = aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=7)
    assert put["ReservedConcurrentExecutions"] == 7
    assert aws.get_function_concurrency(FunctionName=function)["ReservedConcurrentExecutions"] == 7
    assert aws.get_function(FunctionName=function)["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    after = aws.get_account_settings()["AccountLimit"]
    assert after["UnreservedConcurrentExecutions"] == before["UnreservedConcurrentExecutions"] - 7
    assert after["ConcurrentExecutions"] == 1000
    aws.delete_function_concurrency(FunctionName=function)
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName=function)
    assert aws.get_account_settings()["AccountLimit"] == before


def test_a_deleted_function_leaves_no_reservation(aws: Any) -> None:
    before = aws.get_account_settings()["AccountLimit"]
    make(aws, "reserved-and-gone")
    aws.put_function_concurrency(FunctionName="reserved-and-gone", ReservedConcurrentExecutions=50)
    aws.delete_function(FunctionName="reserved-and-gone")
    assert aws.get_account_settings()["AccountLimit"] == before
    make(aws, "reserved-and-gone")
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName="reserved-and-gone")
    aws.delete_function(FunctionName="reserved-and-gone")


def test_reserved_zero_throttles_every_call_as_on_aws(aws: Any, function: str) -> None:
    aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    with pytest.raises(aws.exceptions.TooManyRequestsException) as refused:
        aws.invoke(FunctionName=function, Payload=b"1")
    response = refused.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert response["Type"] == "User"
    assert response["Error"]["Message"] == "Rate Exceeded."
    aws.delete_function_concurrency(FunctionName=function)
    assert aws.invoke(FunctionName=function, Payload=b"1")["StatusCode"] == 200


@pytest.mark.parametrize("calls", [901, 1000, 5_000_000])
def test_a_hundred_must_be_left_for_the_other_functions(aws: Any, function: str, calls: int) -> None:
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match=r"below its minimum value of \[100\]"):
        aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=calls)


def test_reserved_concurrency_is_exact_over_http(platform: Platform, aws: Any) -> None:
    name = make(aws, "reserved-two")
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    client = platform.aws(max_pool_connections=16)

    def call(_: int) -> str:
        try:
            client.invoke(FunctionName=name, Payload=b"0.5")
        except ClientError as error:
            return str(error.response["Reason"])
        return "done"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(8)))
    assert results.count("done") == 2
    assert results.count("ReservedFunctionConcurrentInvocationLimitExceeded") == 6
    aws.delete_function(FunctionName=name)


def test_a_name_that_is_not_mine_is_not_found(aws: Any, platform: Platform, function: str) -> None:
    other = platform.aws(platform.other_access_key, platform.other_secret)
    for act in (
        lambda: aws.put_function_concurrency(FunctionName="nobody", ReservedConcurrentExecutions=1),
        lambda: other.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0),
        lambda: other.get_provisioned_concurrency_config(FunctionName=function, Qualifier="1"),
        lambda: aws.put_provisioned_concurrency_config(
            FunctionName=function, Qualifier="99", ProvisionedConcurrentExecutions=1
        ),
    ):
        with pytest.raises(ClientError) as refused:
            act()
        assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


def wait_ready(aws: Any, name: str, qualifier: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        found: dict[str, Any] = aws.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
        if found["Status"] != "IN_PROGRESS":
            return found
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_provisioned_concurrency_is_ready_before_the_first_call(aws: Any, platform: Platform) -> None:
    name = make(aws, "provisioned", "echo")
    version = aws.publish_version(FunctionName=name)["Version"]
    put = aws.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=2
    )
    assert put["RequestedProvisionedConcurrentExecutions"] == 2
    assert put["Status"] in ("IN_PROGRESS", "READY")
    found = wait_ready(aws, name, version)
    assert (found["Status"], found["AllocatedProvisionedConcurrentExecutions"]) == ("READY", 2)
    assert found["AvailableProvisionedConcurrentExecutions"] == 2
    headers = aws.invoke(FunctionName=name, Qualifier=version, Payload=b"1")["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-alcove-start"].startswith("warm")
    listed = aws.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert [one["FunctionArn"].rsplit(":", 1)[1] for one in listed] == [version]
    aws.delete_provisioned_concurrency_config(FunctionName=name, Qualifier=version)
    with pytest.raises(aws.exceptions.ProvisionedConcurrencyConfigNotFoundException):
        aws.get_provisioned_concurrency_config(FunctionName=name, Qualifier=version)
    aws.delete_function(FunctionName=name)


def test_provisioned_concurrency_that_makes_no_sense_is_refused(aws: Any, function: str) -> None:
    version = aws.publish_version(FunctionName=function)["Version"]
    refused = aws.exceptions.InvalidParameterValueException
    with pytest.raises(refused, match="unpublished"):
        aws.put_provisioned_concurrency_config(
            FunctionName=function, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1
        )
    with pytest.raises(refused, match="minimum value"):
        aws.put_provisioned_concurrency_config(
            FunctionName=function, Qualifier=version, ProvisionedConcurrentExecutions=901
        )
    aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=2)
    with pytest.raises(refused, match="greater than the reserved"):
        aws.put_provisioned_concurrency_config(
            FunctionName=function, Qualifier=version, ProvisionedConcurrentExecutions=3
        )
    aws.put_provisioned_concurrency_config(FunctionName=function, Qualifier=version, ProvisionedConcurrentExecutions=2)
    with pytest.raises(refused, match="lower than its provisioned"):
        aws.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=1)


def test_more_than_the_machine_has_room_for_fails_with_a_reason(aws: Any, function: str) -> None:
    version = aws.publish_version(FunctionName=function)["Version"]
    aws.put_provisioned_concurrency_config(FunctionName=function, Qualifier=version, ProvisionedConcurrentExecutions=20)
    found = wait_ready(aws, function, version)
    assert found["Status"] == "FAILED"
    assert "4 provisioned sandboxes" in found["StatusReason"]


def test_reserved_concurrency_in_cfc(platform: Platform, cfc: Any, function: str) -> None:
    client = Client(platform.socket.parent)
    path = f"/v1/functions/{function}/concurrency"
    assert client.call("PUT", path, {"ReservedConcurrentExecutions": 0}) == {"ReservedConcurrentExecutions": 0}
    assert client.call("GET", path) == {"ReservedConcurrentExecutions": 0}
    refused = cfc.invocations(function, body=1)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert json.loads(refused.read())["code"] == "TooManyRequestsException"
    client.request("DELETE", path)
    assert client.call("GET", path) == {}


def test_ps_shows_who_waits(platform: Platform, aws: Any) -> None:
    name = make(aws, "crowded")
    client = platform.aws(max_pool_connections=16)
    with ThreadPoolExecutor(10) as pool:
        # Eight sandboxes may run, two calls may wait.
        calls = [pool.submit(client.invoke, FunctionName=name, Payload=b"1.5") for _ in range(10)]
        shown, deadline = "", time.monotonic() + 10
        while "WAITING" not in shown:
            assert time.monotonic() < deadline
            shown = CliRunner().invoke(root, ["ps", "--run", str(platform.socket.parent)]).output
        assert "crowded" in shown
        assert all(call.result()["StatusCode"] == 200 for call in calls)
    aws.delete_function(FunctionName=name)


def test_several_requests_in_one_sandbox(platform: Platform, aws: Any) -> None:
    name = make(aws, "shared")
    arn = aws.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    aws.tag_resource(Resource=arn, Tags={"alcove:concurrency": "8"})
    client = platform.aws(max_pool_connections=16)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.invoke(FunctionName=name, Payload=b"0.3"), range(8)))
    assert len({one["ResponseMetadata"]["HTTPHeaders"]["x-alcove-sandbox"] for one in answers}) == 1
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="1 to 100"):
        aws.tag_resource(Resource=arn, Tags={"alcove:concurrency": "1000"})
    aws.delete_function(FunctionName=name)


def test_instances_and_queues_are_a_tenants_own(platform: Platform, aws: Any, function: str) -> None:
    aws.invoke(FunctionName=function, Payload=b"1")
    found = Client(platform.socket.parent).call("GET", "/alcove/v1/instances")
    assert function in [one["function"] for one in found["instances"]]
    assert isinstance(found["queues"], list)


def test_deploy_sets_everything(platform: Platform, aws: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return event\n")
    run = str(platform.socket.parent)
    deploy = ["fn", "deploy", str(tmp_path), "--name", "all-set", "--run", run]
    new = ["--runtime", "python3.11", "--handler", "echo", "--fresh-vm", "--reserved-concurrency", "5"]
    assert CliRunner().invoke(root, [*deploy, *new, "--publish", "--provisioned", "1"]).exit_code == 0
    found = aws.get_function(FunctionName="all-set")
    assert found["Tags"]["alcove:fresh-vm"] == "true"
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    assert wait_ready(aws, "all-set", "1")["Status"] == "READY"
    first, second = (aws.invoke(FunctionName="all-set", Qualifier="1", Payload=b"1") for _ in range(2))
    sandboxes = {one["ResponseMetadata"]["HTTPHeaders"]["x-alcove-sandbox"] for one in (first, second)}
    assert len(sandboxes) == 2
    assert CliRunner().invoke(root, [*deploy, "--no-fresh-vm", "--reserved-concurrency", "none"]).exit_code == 0
    assert aws.get_function(FunctionName="all-set")["Tags"]["alcove:fresh-vm"] == "false"
    assert "Concurrency" not in aws.get_function(FunctionName="all-set")
    refused = CliRunner().invoke(root, [*deploy, "--provisioned", "1"])
    assert isinstance(refused.exception, InvalidRequest)
    aws.delete_function(FunctionName="all-set")


def test_a_tag_sets_fresh_vm_with_any_client(aws: Any, cfc: Any, function: str) -> None:
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    aws.tag_resource(Resource=arn, Tags={"alcove:fresh-vm": "true"})
    sandboxes = {cfc.invocations(function, body=1).headers["X-Alcove-Sandbox"] for _ in range(3)}
    assert len(sandboxes) == 3
    with pytest.raises(aws.exceptions.InvalidParameterValueException):
        aws.tag_resource(Resource=arn, Tags={"alcove:fresh-vm": "perhaps"})


def instances(client: Client) -> list[dict[str, Any]]:
    return list(client.call("GET", "/alcove/v1/instances")["instances"])


def test_provisioned_concurrency_follows_its_alias(platform: Platform, aws: Any) -> None:
    name = make(aws, "behind-an-alias", "echo")
    first = aws.publish_version(FunctionName=name)["Version"]
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion=first)
    aws.put_provisioned_concurrency_config(FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=1)
    assert wait_ready(aws, name, "live")["Status"] == "READY"
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="provisioned already, by live"):
        aws.put_provisioned_concurrency_config(FunctionName=name, Qualifier=first, ProvisionedConcurrentExecutions=1)
    aws.update_function_configuration(FunctionName=name, Timeout=9)
    second = aws.publish_version(FunctionName=name)["Version"]
    aws.update_alias(FunctionName=name, Name="live", FunctionVersion=second)
    # Nobody has called it.
    client, deadline = Client(platform.socket.parent), time.monotonic() + 30
    while (name, second) not in {(one["function"], one["version"]) for one in instances(client)}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    aws.delete_alias(FunctionName=name, Name="live")
    while aws.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    aws.delete_function(FunctionName=name)
