"""A function's own kernel, as stock clients wait for it: Pending until a machine on it is saved."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kernels import bzimage
from tests.parity.conftest import HELLO, ROLE, Platform


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def register(platform: Platform, name: str, vmlinuz: Path) -> None:
    connection = Unix(platform.socket)
    connection.request("PUT", f"/alcove/v1/kernels/{name}", json.dumps({"vmlinuz": str(vmlinuz)}))
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()


@pytest.fixture
def kernels(platform: Platform, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The names of two kernels."""
    names = ("k-one", "k-two")
    for name in names:
        (tmp_path / name).write_bytes(bzimage(f"6.1.0-{name}"))
        register(platform, name, tmp_path / name)
    yield names
    connection = Unix(platform.socket)
    for name in names:
        connection.request("DELETE", f"/alcove/v1/kernels/{name}")
        assert connection.getresponse().read() == b""
    connection.close()


def test_a_function_is_pending_until_its_kernel_has_booted(aws: Any, kernels: tuple[str, str]) -> None:
    name = "own-kernel"
    made = aws.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="echo",
        Code={"ZipFile": HELLO},
        Tags={"alcove:kernel": kernels[0]},
    )
    assert (made["State"], made["StateReasonCode"]) == ("Pending", "Creating")
    assert "its own kernel" in made["StateReason"]
    # A call in the meantime waits.
    assert aws.invoke(FunctionName=name, Payload=b"1")["Payload"].read() == b"1"
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    arn = made["FunctionArn"]
    aws.tag_resource(Resource=arn, Tags={"alcove:kernel": kernels[1]})
    found = aws.get_function_configuration(FunctionName=name)
    assert (found["State"], found["LastUpdateStatus"]) == ("Pending", "InProgress")
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    found = aws.get_function_configuration(FunctionName=name)
    assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in found
    aws.delete_function(FunctionName=name)
