"""The stock client for Go, and the calls that its tests share."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.parity.conftest import HELLO, Platform
from tests.stock_clients.go import GoClient, Refused

CODE = base64.b64encode(HELLO).decode()
INVALID = ("InvalidParameterValueException", 400)
MISSING = ("ResourceNotFoundException", 404)


@pytest.fixture(scope="module")
def go(platform: Platform) -> Iterator[GoClient]:
    with GoClient(platform.url, platform.access_key, platform.secret) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(platform: Platform) -> Iterator[GoClient]:
    """The client of another tenant."""
    with GoClient(platform.url, platform.other_access_key, platform.other_secret) as client:
        yield client


@pytest.fixture
def name(go: GoClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an ``echo`` function."""
    name = f"go-{abs(hash(request.node.nodeid)) % 10**12}"
    create(go, name)
    yield name
    go("DeleteFunction", {"FunctionName": name})


def create(go: GoClient, name: str, **more: Any) -> Any:
    code = {"ZipFile": CODE, **more.pop("Code", {})}
    document = {"FunctionName": name, "Handler": "echo", "Runtime": "python3.11", "MemorySize": 128, **more}
    return go("CreateFunction", {"Code": code, **document})


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[str, int]:
    with pytest.raises(Refused) as caught:
        call(*arguments, **options)
    assert caught.value.request_id
    return caught.value.code, caught.value.status


def brn_of(go: GoClient, name: str) -> str:
    return str(go("GetFunction", {"FunctionName": name})["Configuration"]["FunctionBrn"])
