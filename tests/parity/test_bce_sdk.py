"""Stock bce-python-sdk: the CFC calls, and refusals as it reads them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from typing import Any
from unittest import mock

import pytest
from baidubce import utils
from baidubce.auth import bce_v1_signer
from baidubce.exception import BceHttpClientError
from baidubce.services.cfc.cfc_client import CfcClient
from tests.parity.conftest import HELLO, Platform, zipped

# The SDK leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

CODE = base64.b64encode(HELLO).decode()


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[str, int]:
    with pytest.raises(BceHttpClientError) as caught:
        call(*arguments, **options)
    return caught.value.last_error.code, caught.value.last_error.status_code


def test_the_life_of_a_function(cfc: Any, platform: Platform) -> None:
    created = cfc.create_function(
        "bce-life",
        handler="echo",
        zip_file=CODE,
        run_time="python3.11",
        environment={"COLOUR": "red"},
    )
    assert created.FunctionName == "bce-life"
    assert created.FunctionBrn.startswith("brn:bce:cfc:")
    assert created.Version == "$LATEST"
    assert "bce-life" in [item.FunctionName for item in cfc.list_functions().Functions]
    for name in ("bce-life", created.FunctionBrn):
        assert cfc.get_function(name).Configuration.CodeSha256 == created.CodeSha256
    assert cfc.get_function_configuration("bce-life").Environment.Variables.COLOUR == "red"
    assert cfc.update_function_configuration("bce-life", timeout=9).Timeout == 9
    published = cfc.publish_version("bce-life", description="one")
    assert (published.Version, published.Description) == ("1", "one")
    other = base64.b64encode(zipped({"app.py": b"z = 1\n"})).decode()
    assert cfc.update_function_code("bce-life", zip_file=other, publish=True).Version == "2"
    assert [item.Version for item in cfc.list_versions_by_function("bce-life").Versions] == [
        "$LATEST",
        "1",
        "2",
    ]
    answer = cfc.invoke("bce-life", body={"a": 1}, qualifier="1", log_type="Tail")
    assert json.loads(answer.read()) == {"a": 1}
    assert "START RequestId" in base64.b64decode(answer.headers["x-bce-log-result"]).decode()
    assert "; why=" in answer.headers["X-Alcove-Start"]
    cfc.delete_function("bce-life")
    assert refused(cfc.get_function, "bce-life") == ("ResourceNotFoundException", 404)


def test_invocation_types_and_function_errors(cfc: Any) -> None:
    cfc.create_function("bce-raise", handler="raise", zip_file=CODE, run_time="python3.11")
    answer = cfc.invoke("bce-raise", body={})
    assert (answer.status, answer.headers["x-bce-function-error"]) == (200, "Unhandled")
    assert json.loads(answer.read())["errorMessage"] == "no"
    for kind, status in (("Event", 202), ("DryRun", 204)):
        assert cfc.invoke("bce-raise", invocation_type=kind, body={}).status == status
    cfc.delete_function("bce-raise")


def test_refusals(cfc: Any) -> None:
    def create(**changes: Any) -> tuple[str, int]:
        options = {"handler": "echo", "zip_file": CODE, "run_time": "python3.11", **changes}
        return refused(cfc.create_function, "bce-bad", **options)

    invalid = ("InvalidParameterValueException", 400)
    assert create(run_time="python2") == invalid
    assert create(memory_size=64) == invalid
    assert create(zip_file=base64.b64encode(b"no zip").decode()) == invalid
    assert create(zip_file="%%%") == invalid
    assert create(zip_file=None) == invalid
    assert create(zip_file=base64.b64encode(zipped({"../x": b""})).decode()) == invalid
    cfc.create_function("bce-twice", handler="echo", zip_file=CODE, run_time="python3.11")
    twice = refused(cfc.create_function, "bce-twice", handler="echo", zip_file=CODE, run_time="python3.11")
    assert twice == ("ResourceConflictException", 409)
    # Stock invoke() hands out the answer as it is, a refusal too.
    for size in (6 << 20, 8 << 20):
        large = cfc.invoke("bce-twice", body="x" * size)
        assert (large.status, json.loads(large.read())["code"]) == (413, "RequestTooLargeException")
    cfc.delete_function("bce-twice")


def test_signatures(platform: Platform) -> None:
    assert refused(platform.cfc(secret="wrong").list_functions) == ("SignatureDoesNotMatch", 403)
    assert refused(platform.cfc(access_key="nobody").list_functions) == ("InvalidAccessKeyId", 403)

    sign = bce_v1_signer.sign

    def stale(credentials: Any, method: Any, path: Any, headers: Any, params: Any, **options: Any) -> Any:
        return sign(credentials, method, path, headers, params, timestamp=1_600_000_000, **options)

    with mock.patch.object(bce_v1_signer, "sign", stale):
        code, status = refused(platform.cfc().list_functions)
    assert code == "RequestExpired"
    assert status in (400, 403)
    connection = http.client.HTTPConnection("127.0.0.1", platform.port)
    connection.request("GET", "/v1/functions/")
    answer = connection.getresponse()
    assert answer.status == 403
    assert set(json.loads(answer.read())) >= {"code", "message", "requestId"}
    connection.close()


def test_a_key_of_one_tenant_sees_nothing_of_another(cfc: Any, platform: Platform) -> None:
    created = cfc.create_function("bce-mine", handler="echo", zip_file=CODE, run_time="python3.11")
    other = platform.cfc(platform.other_access_key, platform.other_secret)
    for name in ("bce-mine", created.FunctionBrn):
        assert refused(other.get_function, name) == ("ResourceNotFoundException", 404)
        assert refused(other.delete_function, name) == ("ResourceNotFoundException", 404)
    assert list(other.list_functions().Functions) == []
    cfc.delete_function("bce-mine")


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def test_the_operator_signs_nothing(platform: Platform) -> None:
    connection = _Unix(str(platform.socket))

    def call(method: str, path: str, document: Any = None, **headers: str) -> tuple[int, Any]:
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data else None

    document = {"FunctionName": "op", "Runtime": "nodejs18.x", "Handler": "echo", "Network": False}
    status, made = call("POST", "/2015-03-31/functions", {**document, "Isolation": "vm", "Code": {"ZipFile": CODE}})
    assert (status, made["Isolation"], made["Network"]) == (201, "vm", False)
    assert call("GET", "/2015-03-31/functions/op", **{"X-Alcove-Tenant": "other"})[0] == 404
    assert call("GET", "/2015-03-31/functions/op", **{"X-Alcove-Tenant": "nobody"})[0] == 404
    assert call("POST", "/v1/functions/op/invocations", {"x": 1}) == (200, {"x": 1})
    assert call("GET", "/alcove/v1/instances")[0] == 200
    environment = call("GET", "/alcove/v1/env")[1]
    assert environment["AWS_ACCESS_KEY_ID"] == platform.access_key
    assert call("DELETE", "/2015-03-31/functions/op")[0] == 204
    connection.close()


def test_the_quirks_of_the_go_client(platform: Platform, cfc: Any) -> None:
    """It writes ``qualifier`` in lower case."""
    cfc.create_function("bce-go", handler="echo", zip_file=CODE, run_time="python3.11")
    assert utils.get_canonical_time()
    connection = _Unix(str(platform.socket))
    connection.request("GET", "/v1/functions/bce-go?qualifier=7", "{}")
    assert connection.getresponse().status == 404
    connection.close()
    cfc.delete_function("bce-go")


# Every call of the client: what is asked, and what of the answer is looked at.
SURFACE = {
    "create_alias": lambda cfc, f: cfc.create_alias(f.name, "1", "second", "d").Name == "second",
    "create_function": lambda cfc, f: f.brn.startswith("brn:bce:cfc:"),
    "create_trigger": lambda cfc, f: f.trigger(cfc).Relation.Source == "cfc-crontab-trigger/v1/",
    "delete_alias": lambda cfc, f: (
        cfc.create_alias(f.name, "1", "gone", "") and cfc.delete_alias(f.name, "gone") is not None
    ),
    "delete_function": lambda cfc, f: cfc.delete_function(f.another(cfc)) is not None,
    "delete_trigger": lambda cfc, f: (
        cfc.delete_trigger(f.brn, "cfc-crontab-trigger/v1/", f.trigger(cfc).Relation.RelationId) is not None
    ),
    "get_alias": lambda cfc, f: cfc.get_alias(f.name, "live").FunctionVersion == "1",
    "get_function": lambda cfc, f: cfc.get_function(f.name, qualifier="1").Configuration.Version == "1",
    "get_function_configuration": lambda cfc, f: cfc.get_function_configuration(f.name).Handler == "echo",
    "invocations": lambda cfc, f: json.loads(cfc.invocations(f.name, body={"a": 1}).read()) == {"a": 1},
    "invoke": lambda cfc, f: json.loads(cfc.invoke(f.name, body={"a": 1}, qualifier="live").read()) == {"a": 1},
    "list_aliases": lambda cfc, f: "live" in [one.Name for one in cfc.list_aliases(f.name, max_items=10).Aliases],
    "list_functions": lambda cfc, f: f.name in [one.FunctionName for one in cfc.list_functions().Functions],
    "list_triggers": lambda cfc, f: f.trigger(cfc) and len(cfc.list_triggers(f.brn).Relation) > 0,
    "list_versions_by_function": lambda cfc, f: len(cfc.list_versions_by_function(f.name).Versions) == 2,
    "publish_version": lambda cfc, f: cfc.publish_version(f.another(cfc), description="d").Version == "1",
    "update_alias": lambda cfc, f: cfc.update_alias(f.name, "live", "1", "changed").Description == "changed",
    "update_function_code": lambda cfc, f: cfc.update_function_code(f.another(cfc), zip_file=CODE).CodeSize > 0,
    "update_function_configuration": lambda cfc, f: (
        cfc.update_function_configuration(f.another(cfc), timeout=9, environment={"AA": "b"}).Timeout == 9
    ),
    "update_trigger": lambda cfc, f: f.changed_trigger(cfc).Data.ScheduleExpression == "rate(2 hours)",
}


class Deployed:
    """A function with version 1 and the alias ``live``."""

    def __init__(self, cfc: Any, name: str) -> None:
        self.name, self.names = name, [name]
        made = cfc.create_function(name, handler="echo", zip_file=CODE, run_time="python3.11")
        self.brn = made.FunctionBrn
        cfc.publish_version(name)
        cfc.create_alias(name, "1", "live", "")

    def another(self, cfc: Any) -> str:
        name = f"{self.name}-{len(self.names)}"
        cfc.create_function(name, handler="echo", zip_file=CODE, run_time="python3.11")
        self.names.append(name)
        return name

    def cron(self, schedule: str) -> dict[str, Any]:
        return {"ScheduleExpression": schedule, "Enabled": "Disabled", "Name": f"t{len(self.names)}", "Input": "{}"}

    def remove_triggers(self, cfc: Any) -> None:
        """They stay when their function goes."""
        for one in cfc.list_triggers(self.brn).Relation:
            cfc.delete_trigger(self.brn, one.Source, one.RelationId)

    def changed_trigger(self, cfc: Any) -> Any:
        made = self.trigger(cfc).Relation.RelationId
        return cfc.update_trigger(self.brn, made, self.cron("rate(2 hours)")).Relation

    def trigger(self, cfc: Any) -> Any:
        return cfc.create_trigger(self.brn, "cfc-crontab-trigger/v1/", self.cron("rate(1 hour)"))


def test_every_call_of_the_client_is_tried() -> None:
    calls = {name for name in vars(CfcClient) if not name.startswith("_")}
    assert calls - {"send_request", "prefix"} == set(SURFACE)


@pytest.mark.parametrize("call", SURFACE)
def test_every_call_of_the_client(cfc: Any, call: str) -> None:
    function = Deployed(cfc, f"bce-{call.replace('_', '-')}")
    try:
        assert SURFACE[call](cfc, function)
    finally:
        function.remove_triggers(cfc)
        for name in function.names:
            with contextlib.suppress(BceHttpClientError):
                cfc.delete_function(name)
