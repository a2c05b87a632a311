"""The OpenAPI document: it holds every route, and nothing that schemathesis makes of it gets a 5xx.

Requests are signed by a tenant that has a function of its own; half of them name it.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, settings
from requests.auth import AuthBase
from tests.parity.conftest import HELLO, ROLE, Platform

from alcove.api import openapi
from alcove.api.app import ROUTES

EXAMPLES = 6
FUNCTION = "openapi"


class Signed(AuthBase):
    """Signs what is about to be sent, as it will travel."""

    def __init__(self, platform: Platform) -> None:
        credentials = Credentials(platform.other_access_key, platform.other_secret)
        self._signer = SigV4Auth(credentials, "lambda", "eu-central-1")

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
def tenant(platform: Platform) -> Iterator[Any]:
    client = platform.aws(platform.other_access_key, platform.other_secret)
    client.create_function(
        FunctionName=FUNCTION, Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}
    )
    yield client
    for one in client.list_functions()["Functions"]:
        client.delete_function(FunctionName=one["FunctionName"])


api = schemathesis.openapi.from_dict(openapi.document(ROUTES))


@api.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_no_operation_breaks(case: Any, platform: Platform, tenant: Any) -> None:
    assert tenant
    known = [(case.path_parameters, "name"), *((case.body, key) for key in ("FunctionName", "Target", "function"))]
    for fields, key in known:
        if isinstance(fields, dict) and key in fields and len(str(fields[key])) % 2 and case.method != "DELETE":
            fields[key] = FUNCTION
    answer = case.call(base_url=platform.url, auth=Signed(platform), timeout=30)
    assert answer.status_code < 500, (case.method, answer.request.url, answer.request.body, answer.text)


def test_the_document(platform: Platform) -> None:
    found = fetch(platform)
    assert found == openapi.document(ROUTES)
    create = found["paths"]["/2015-03-31/functions"]["post"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["FunctionName", "Runtime", "Code"]
    assert "201" in create["responses"]
    relation = found["paths"]["/v1/relation"]["post"]
    error = relation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
    assert error.endswith("/BceError")
    assert found["paths"]["/v1/dueros/{endpoint}"]["post"]["security"] == []
    ids = [one["operationId"] for path in found["paths"].values() for one in path.values()]
    assert len(set(ids)) == len(ids) > 50
