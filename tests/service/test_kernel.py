"""A function on a kernel of its own: Debian's PREEMPT_RT kernel beside the guest image's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from tests.kernels import real_kernel
from tests.service.conftest import STATE
from tests.service.server import Server

from alcove.errors import NotFound

SOURCE = """
import os
RELEASE = os.uname().release

def handler(event, context):
    with open("/proc/cmdline") as file:
        return [RELEASE, os.uname().release, "alcove.test=1" in file.read()]
"""


def test_a_function_runs_on_its_own_kernel(server: Server, aws: Any, deploy: Callable[..., str]) -> None:
    folder = (STATE / "rt-kernel").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    vmlinuz, modules, release = real_kernel(folder)
    # An earlier run's may be another one.
    with contextlib.suppress(NotFound):
        server.call("DELETE", "/alcove/v1/kernels/rt")
    document = {"vmlinuz": str(vmlinuz), "modules": str(modules), "append": "alcove.test=1"}
    made = server.call("PUT", "/alcove/v1/kernels/rt", document)
    assert made["release"] == release
    own, plain = deploy(SOURCE, Tags={"alcove:kernel": "rt"}), deploy(SOURCE)

    def answer(name: str, **options: Any) -> tuple[list[Any], str]:
        result = aws.invoke(FunctionName=name, Payload=b"null", **options)
        return json.loads(result["Payload"].read()), result["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"]

    # Its machine is made beside the deployment, as clients wait for it.
    state = aws.get_function_configuration(FunctionName=own)
    assert state["State"] == "Pending" or state["LastUpdateStatus"] == "Successful"
    aws.get_waiter("function_active_v2").wait(FunctionName=own, WaiterConfig={"Delay": 1, "MaxAttempts": 200})
    found, start = answer(own)
    assert found == [release, release, True], found
    assert "it runs its own kernel, rt" in start
    other, _ = answer(plain)
    assert other[0] not in ("", release)
    assert other[2] is False
    aws.publish_version(FunctionName=own)
    found, start = answer(own, Qualifier="1")
    assert (found, start.split(";")[0]) == ([release, release, True], "restored")
