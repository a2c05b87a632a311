"""``alcove usage`` and trace headers, over the real server with stock clients."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.signing import send
from tests.parity.test_response_streams import create, stream
from tests.parity.test_tenants import alcove, shown

from alcove.cli import exits

MONTH = f"{datetime.now(UTC):%Y-%m}"
W3C = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def rows(platform: Platform, *options: str) -> dict[str, dict[str, Any]]:
    return {row["function"]: row for row in shown(platform, "usage", *options)["usage"]}


def test_each_call_is_in_the_sums_once(platform: Platform, aws: Any, cfc: Any, function: str) -> None:
    billed = 0
    for client in (aws, aws, cfc):
        if client is cfc:
            answer = cfc.invoke(function, body={}, log_type="Tail")
            log = answer.headers["x-bce-log-result"]
        else:
            log = aws.invoke(FunctionName=function, Payload=b"{}", LogType="Tail")["LogResult"]
        report = base64.b64decode(log).decode()
        billed += int(re.search(r"Billed Duration: (\d+) ms", report)[1])  # type: ignore[index]
    found = rows(platform, "--function", function)[function]
    assert (found["calls"], found["errors"], found["billed_ms"]) == (3, 0, billed)
    assert found["mib_ms"] == billed * 128
    assert (found["month"], found["tenant"], found["tenant_name"]) == (MONTH, platform.tenant, "default")


def test_errors_and_failed_inits_are_calls(platform: Platform, aws: Any) -> None:
    for handler in ("raise", "initfail"):
        aws.create_function(
            FunctionName=f"use-{handler}", Runtime="python3.11", Role=ROLE, Handler=handler, Code={"ZipFile": HELLO}
        )
        aws.invoke(FunctionName=f"use-{handler}", Payload=b"{}")
        aws.delete_function(FunctionName=f"use-{handler}")
        found = rows(platform)[f"use-{handler}"]
        assert (found["calls"], found["errors"]) == (1, 1)
        assert found["billed_ms"] > 0


def test_streamed_bytes_are_counted(platform: Platform, aws: Any) -> None:
    name = create(aws, "use-stream", "stream")
    for parts in (["one", "two"], ["x" * 70_000]):
        stream(aws, name, {"type": "text/plain", "parts": parts})
    cut_short = stream(aws, name, {"type": "text/plain", "parts": ["four"], "error": "exit"})[1]
    assert cut_short["ErrorCode"] == "Unhandled"
    aws.delete_function(FunctionName=name)
    found = rows(platform)[name]
    assert (found["calls"], found["errors"], found["streamed_bytes"]) == (3, 1, 70_010)


def test_a_tenant_sees_its_own_use_alone(platform: Platform, aws: Any, function: str) -> None:
    aws.invoke(FunctionName=function, Payload=b"{}")
    for query in ("", f"?tenant={platform.tenant}", "?tenant=default&month=all"):
        path = f"/alcove/v1/usage{query}"
        mine, theirs = (
            json.loads(send(platform.port, "GET", path, access_key=key, secret=secret)[2])
            for key, secret in (
                (platform.access_key, platform.secret),
                (platform.other_access_key, platform.other_secret),
            )
        )
        assert {row["tenant"] for row in mine["usage"]} == {platform.tenant}
        assert platform.tenant not in {row["tenant"] for row in (*theirs["usage"], *theirs["bills"])}


def test_usage_is_printed_in_three_ways(platform: Platform, aws: Any, function: str) -> None:
    aws.invoke(FunctionName=function, Payload=b"{}")
    whole = shown(platform, "usage", "--tenant", "default", "--month", MONTH)
    (bill,) = whole["bills"]
    assert bill["calls"] == sum(row["calls"] for row in whole["usage"])
    assert bill["mib_ms"] == sum(row["mib_ms"] for row in whole["usage"])
    assert bill["billable_calls"] == 0
    assert "cost" not in bill
    lines = list(csv.DictReader(io.StringIO(alcove(platform, "usage", "--csv", "--function", function).output)))
    assert [line["calls"] for line in lines] == ["1"]
    printed = alcove(platform, "usage").output
    assert function in printed
    assert "BEYOND FREE" in printed
    assert shown(platform, "usage", "--month", "2020-01") == {"usage": [], "instances": [], "bills": []}
    assert alcove(platform, "usage", "--month", "november").exit_code == exits.USAGE
    assert alcove(platform, "usage", "--tenant", "nobody").exit_code == exits.NOT_FOUND


def test_pages_of_usage_join(platform: Platform, aws: Any, function: str) -> None:
    aws.invoke(FunctionName=function, Payload=b"{}")
    keys = {"access_key": platform.access_key, "secret": platform.secret}

    def page(after: str) -> dict[str, Any]:
        path = "/alcove/v1/usage?limit=1" + (f"&after={quote(after, safe='')}" if after else "")
        return dict(json.loads(send(platform.port, "GET", path, **keys)[2]))

    found, after = [], ""
    while after is not None:
        one = page(after)
        assert len(one["usage"]) == 1
        assert ("bills" in one) == (not after)
        found += one["usage"]
        after = one["after"]
    names = [row["function"] for row in found]
    assert names == sorted(set(names))
    assert function in names
    status = send(platform.port, "GET", "/alcove/v1/usage?after=x", **keys)[0]
    assert status == 400


def test_a_trace_is_taken_up_and_given_back(platform: Platform, aws: Any, function: str) -> None:
    path = f"/2015-03-31/functions/{function}/invocations"
    keys = {"access_key": platform.access_key, "secret": platform.secret}
    xray = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
    for sent in ({"traceparent": W3C}, {"X-Amzn-Trace-Id": xray}):
        status, headers, _ = send(platform.port, "POST", path, b"{}", **keys, **sent)
        assert status == 200
        span = headers["traceparent"].split("-")[2]
        assert headers["traceparent"] == f"00-0af7651916cd43dd8448eb211c80319c-{span}-01"
        assert headers["x-amzn-trace-id"] == f"Root=1-0af76519-16cd43dd8448eb211c80319c;Parent={span};Sampled=1"
        assert span != "b7ad6b7169203331"
    _, headers, _ = send(platform.port, "POST", path, b"{}", **keys)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers["traceparent"])


def test_the_log_of_an_asynchronous_call_is_found_by_its_id(platform: Platform, aws: Any) -> None:
    name = create(aws, "use-log", "print")
    accepted = aws.invoke(FunctionName=name, InvocationType="Event", Payload=b'"printed"')
    request_id = accepted["ResponseMetadata"]["RequestId"]
    aws.invoke(FunctionName=name, Payload=b'"another"')
    deadline = time.monotonic() + 60
    while not (found := alcove(platform, "fn", "logs", name, "--request", request_id, "--json").output):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lines = [json.loads(line) for line in found.splitlines()]
    assert {line["request_id"] for line in lines} == {request_id}
    assert [line["text"].split()[0] for line in lines] == ["START", "printed", "END", "REPORT"]
    assert "another" in alcove(platform, "fn", "logs", name).output
    assert alcove(platform, "fn", "logs", name, "--request", request_id[:8]).output.count("\n") == 4
    aws.delete_function(FunctionName=name)
    assert alcove(platform, "fn", "logs", name).exit_code == exits.NOT_FOUND
