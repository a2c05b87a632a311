"""``alcove audit`` over the real server: a line for each change, whoever makes it, and nothing secret in any."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.parity.conftest import HELLO, ROLE, Platform, zipped
from tests.parity.signing import send
from tests.parity.test_tenants import alcove

from alcove.api.audit import is_change
from alcove.cli import exits
from alcove.cli.client import Client

SECRET = secrets.token_hex(12)


def lines(platform: Platform, *options: str) -> list[dict[str, Any]]:
    result = alcove(platform, "audit", "--json", "--tail", "2000", *options)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def told(platform: Platform, request_id: str) -> dict[str, Any]:
    (line,) = [line for line in lines(platform) if line["request_id"] == request_id]
    return line


def request_id(answer: Any) -> str:
    return str(answer["ResponseMetadata"]["RequestId"])


def test_each_change_is_told_with_who_what_and_where_from(platform: Platform, aws: Any, cfc: Any) -> None:
    made = aws.create_function(
        FunctionName="audited", Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}
    )
    line = told(platform, request_id(made))
    assert line | {"number": 0, "time_ms": 0, "request_id": ""} == {
        "number": 0,
        "time_ms": 0,
        "request_id": "",
        "scope": platform.tenant,
        "by": "tenant",
        "key": platform.access_key,
        "address": "127.0.0.1",
        "operation": "aws.create_function",
        "resource": made["FunctionArn"],
        "outcome": "done",
    }
    with pytest.raises(ClientError) as caught:
        aws.update_function_configuration(FunctionName="audited", MemorySize=129, Timeout=100_000)
    refused = told(platform, request_id(caught.value.response))
    assert (refused["operation"], refused["resource"]) == ("aws.update_configuration", "name=audited")
    assert refused["outcome"] == "InvalidParameterValueException"
    cfc.publish_version("audited")
    published = lines(platform)[-1]
    assert (published["operation"], published["resource"]) == ("bce.publish_version", "name=audited")
    Client(platform.socket.parent).request("DELETE", "/2015-03-31/functions/audited?Qualifier=1")
    deleted = lines(platform)[-1]
    assert (deleted["by"], deleted["key"], deleted["resource"]) == ("operator", "", "name=audited qualifier=1")
    assert deleted["address"].startswith("uid=0 pid=")
    printed = alcove(platform, "audit", "--tail", "1").output
    assert "aws.delete_function name=audited qualifier=1 done (uid=0 pid=" in printed
    aws.delete_function(FunctionName="audited")


def test_what_changes_nothing_is_not_told(platform: Platform, aws: Any, function: str) -> None:
    before = len(lines(platform))
    aws.invoke(FunctionName=function, Payload=b"{}")
    aws.get_function(FunctionName=function)
    aws.list_functions()
    # Nobody whose signature is wrong writes into anybody's audit.
    with pytest.raises(ClientError):
        platform.aws(secret="wrong").delete_function(FunctionName=function)
    assert len(lines(platform)) == before


def test_neither_code_nor_secrets_are_in_it(
    platform: Platform, aws: Any, function: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    code = zipped({"app.py": f"x = '{SECRET}'\n".encode()})
    aws.update_function_code(FunctionName=function, ZipFile=code)
    aws.update_function_configuration(FunctionName=function, Environment={"Variables": {"KEY": SECRET}})
    made = json.loads(alcove(platform, "tenant", "add", "audited", "--json").output)
    rotated = json.loads(alcove(platform, "tenant", "rotate", "audited", "--json").output)
    assert alcove(platform, "tenant", "remove", "audited").exit_code == 0
    tenants = [(line["operation"], line["resource"]) for line in lines(platform, "--tenant", "operator")]
    assert tenants[-3:] == [
        ("tenants.create_tenant", made["id"]),
        ("tenants.create_key", "tenant=audited"),
        ("tenants.remove_tenant", "tenant=audited"),
    ]
    folder = platform.socket.parents[1] / "audit"
    data = b"".join(Path(path).read_bytes() for path in folder.iterdir())
    for secret in (
        SECRET,
        made["key"]["secret"],
        rotated["key"]["secret"],
        platform.secret,
        base64.b64encode(code).decode(),
    ):
        assert secret.encode() not in data
    assert b"aws.update_code" in data


def test_a_tenant_reads_its_own_alone(platform: Platform, aws: Any, function: str) -> None:
    aws.tag_resource(Resource=aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"], Tags={"a": "c"})
    for query in ("", f"?tenant={platform.tenant}", "?tenant=operator", "?after=1"):
        found = {}
        for key, secret in (
            (platform.access_key, platform.secret),
            (platform.other_access_key, platform.other_secret),
        ):
            data = send(platform.port, "GET", f"/alcove/v1/audit{query}", access_key=key, secret=secret)[2]
            found[key] = {line["scope"] for line in json.loads(data)["lines"]}
        assert found[platform.access_key] == {platform.tenant}
        assert platform.tenant not in found[platform.other_access_key]
        assert "operator" not in found[platform.other_access_key]


def test_the_audit_is_followed_from_where_it_was(platform: Platform, aws: Any, function: str) -> None:
    client = Client(platform.socket.parent)
    cursor = client.call("GET", "/alcove/v1/audit?tail=1")["cursor"]
    aws.update_function_configuration(FunctionName=function, Timeout=5)
    aws.update_function_configuration(FunctionName=function, Timeout=6)
    for tenant in ("", "default"):
        page = client.call("GET", f"/alcove/v1/audit?tenant={tenant}&after={cursor}")
        assert [line["operation"] for line in page["lines"]] == ["aws.update_configuration"] * 2
        assert client.call("GET", f"/alcove/v1/audit?tenant={tenant}&after={page['cursor']}")["lines"] == []
    assert alcove(platform, "audit", "--tenant", "nobody").exit_code == exits.NOT_FOUND


def test_every_change_among_the_routes_is_audited(platform: Platform) -> None:
    """What is not GET and not a mere invocation is a change, unless its route says otherwise."""
    signed = [route for route in platform.routes if route.signed]
    changes = {f"{route.method} {route.path}" for route in signed if is_change(route)}
    assert "POST /2015-03-31/functions" in changes
    assert "POST /2015-03-31/functions/{name}/invocations" not in changes
    assert {
        f"{route.method} {route.path}"
        for route in signed
        if route.audited is None and route.method in ("PUT", "DELETE")
    } <= changes
