"""The OpenAPI document: it holds every route whole, nothing that schemathesis makes of it gets a 5xx, and what is
answered is what it says.

The other tests hold each of their answers against it too (``conforming.py``). Requests here are signed by a tenant
that has a function of its own, half of them name it; a second round asks as the operator.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, settings
from requests.auth import AuthBase
from tests.parity.conforming import shape
from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.unix_socket import UnixAdapter

from alcove.api import openapi
from alcove.api.app import ROUTES
from alcove.api.router import Route
from alcove.api.sqs_dialect import SQS

# The server is in this process: what it draws lots for is no doing of the strategies.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
EXAMPLES = 6
TENANT = "openapi"
FUNCTION = "openapi"
DOCUMENT = openapi.document(ROUTES)
# SQS's protocol has one path for all its operations; its clients' models are its document.
DOCUMENTED = [route for route in ROUTES if route.dialect is not SQS]
BOUNDED = settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
HELP = "give its Route a detail=Detail(body=..., query=..., status=..., answer=...): see alcove/api/schema.py"


class Signed(AuthBase):
    """Signs what is about to be sent, as it will travel."""

    def __init__(self, access_key: str, secret: str) -> None:
        self._signer = SigV4Auth(Credentials(access_key, secret), "lambda", "eu-central-1")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        signed = AWSRequest(request.method, request.url, data=body)
        self._signer.add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request


def fetch(platform: Platform) -> Any:
    with urllib.request.urlopen(f"{platform.url}/alcove/v1/openapi.json") as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def operator(platform: Platform) -> Iterator[requests.Session]:
    """A session of the operator's, acting for the tenant of this module."""
    with requests.Session() as session:
        session.mount("http://", UnixAdapter(platform.socket))
        session.headers["X-Alcove-Tenant"] = TENANT
        yield session


@pytest.fixture(scope="module")
def tenant(platform: Platform, operator: requests.Session) -> Iterator[Signed]:
    made = operator.post(
        "http://alcove/alcove/v1/tenants", json={"name": TENANT}, headers={"X-Alcove-Tenant": platform.tenant}
    ).json()
    key = made["key"]["access_key"], made["key"]["secret"]
    platform.aws(*key).create_function(
        FunctionName=FUNCTION, Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}
    )
    yield Signed(*key)
    gone = operator.delete(
        f"http://alcove/alcove/v1/tenants/{made['id']}?force=true", headers={"X-Alcove-Tenant": platform.tenant}
    )
    assert gone.status_code == 204, gone.text


def name_the_function(case: Any) -> None:
    """Let half of what names a function name the one that is there."""
    known = [(case.path_parameters, "name"), *((case.body, key) for key in ("FunctionName", "Target", "function"))]
    for fields, key in known:
        if isinstance(fields, dict) and key in fields and len(str(fields[key])) % 2 and case.method != "DELETE":
            fields[key] = FUNCTION


def check(case: Any, platform: Platform, answer: requests.Response) -> None:
    """What the answer lacks, the server has noted before it answered."""
    assert answer.status_code < 500, (case.method, answer.request.url, answer.request.body, answer.text)
    assert not platform.faults, platform.faults


api = schemathesis.openapi.from_dict(DOCUMENT)


@api.parametrize()
@BOUNDED
def test_no_operation_breaks(case: Any, platform: Platform, tenant: Signed) -> None:
    name_the_function(case)
    check(case, platform, case.call(base_url=platform.url, auth=tenant, timeout=30))


@api.include(path_regex="^/(alcove|metrics)").parametrize()
@BOUNDED
def test_nothing_that_the_operator_asks_breaks(
    case: Any, platform: Platform, tenant: Signed, operator: requests.Session
) -> None:
    name_the_function(case)
    check(case, platform, case.call(base_url="http://alcove", session=operator, timeout=30))


def missing(route: Route) -> list[str]:
    """Return what the document lacks of a route."""
    path = next((path for path in DOCUMENT["paths"] if shape(path) == shape(route.path)), "")
    operation = DOCUMENT["paths"].get(path, {}).get(route.method.lower())
    if operation is None:
        return ["it is not in the document"]
    answers = {int(status): one for status, one in operation["responses"].items() if int(status) < 300}
    told = any("content" in one or status in (101, 202, 204) for status, one in answers.items())
    lacks = [] if told else ["its answer"]
    if route.method in ("POST", "PUT") and "requestBody" not in operation:
        lacks.append("the body of its request")
    if "400" not in operation["responses"]:
        lacks.append("its refusals")
    return lacks


@pytest.mark.parametrize("route", DOCUMENTED, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_documented_whole(route: Route) -> None:
    assert not missing(route), f"{route.method} {route.path} ({route.act.__module__}): {missing(route)}; {HELP}"


def test_a_route_without_a_detail_is_noticed() -> None:
    bare = Route("POST", "/alcove/v1/timers", ROUTES[0].act, ROUTES[0].dialect)
    assert missing(bare) == ["it is not in the document"]


# Members of ours in AWS's requests and answers: its clients pass over them.
OWN = {"Isolation", "IsolationCase", "IsolationReason", "Kernel", "Network", "FreshVm", "InstanceConcurrency"}
# In what AWS answers of a function URL, but not when it is made.
OWN |= {"LastModifiedTime"}
# Members of Baidu's that both dialects take.
BAIDU = {"FunctionBrn", "EventSourceBrn", "BosBucket", "BosObject"}


def aws_operations() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    model = botocore.session.get_session().get_service_model("lambda")
    for name in model.operation_names:
        operation = model.operation_model(name)
        wanted = shape(operation.http["requestUri"].partition("?")[0]).rstrip("/")
        for path, methods in DOCUMENT["paths"].items():
            if shape(path) == wanted and operation.http["method"].lower() in methods:
                yield name, operation, methods[operation.http["method"].lower()]


def members(schema: dict[str, Any]) -> set[str]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema.get("properties", {})).union(*(members(one) for one in schema.get("anyOf", ())))


@pytest.mark.parametrize(
    ("name", "model", "ours"), list(aws_operations()), ids=lambda one: one if type(one) is str else ""
)
def test_aws_s_operations_have_aws_s_members(name: str, model: Any, ours: dict[str, Any]) -> None:
    """Oracle: botocore's model of the service."""
    taken = members(ours.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}))
    assert taken - OWN - BAIDU <= set(model.input_shape.members), name
    output = model.output_shape.members if model.output_shape else {}
    status = str(model.http["responseCode"])
    if any(member.serialization.get("location") == "statusCode" for member in output.values()):
        status = min(ours["responses"])
    assert status in ours["responses"], (name, status)
    schema = ours["responses"][status].get("content", {}).get("application/json", {}).get("schema", {})
    if "List" not in name and not name.startswith(("GetLayerVersionByArn", "GetProvisioned")):
        assert members(schema) - OWN <= set(output), name


def test_the_document(platform: Platform) -> None:
    found = fetch(platform)
    assert found == DOCUMENT
    create = found["paths"]["/2015-03-31/functions"]["post"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["FunctionName", "Runtime", "Code"]
    assert "201" in create["responses"]
    relation = found["paths"]["/v1/relation"]["post"]
    refusal = found["components"]["responses"][relation["responses"]["400"]["$ref"].rpartition("/")[2]]
    assert refusal["content"]["application/json"]["schema"]["$ref"].endswith("/BceError")
    assert "InvalidParameterValueException" in refusal["description"]
    assert found["paths"]["/v1/dueros/{endpoint}"]["post"]["security"] == []
    ids = [one["operationId"] for path in found["paths"].values() for one in path.values()]
    assert len(set(ids)) == len(ids) > 50
