"""The tier of an instance is the handler that the runtime is asked for; Kata's too, where it is installed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from tests.cri_fake import FakeCri
from tests.forwarding import COMMAND
from tests.parity.conftest import Platform, serving
from tests.parity.signing import send

from alcove.cli.client import Client
from alcove.errors import InvalidRequest
from alcove.instances.runtime import Runtime

PODS = "/alcove/v1/pods"
NUMBERS = count()


@pytest.fixture(scope="module")
def cri() -> FakeCri:
    return FakeCri()


@pytest.fixture(scope="module")
def platform(cri: FakeCri, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with serving(tmp_path_factory.mktemp("tiers"), cri) as platform:
        yield platform


def pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "registry.test/c:1"}]
    return {"metadata": {"name": f"tier-{next(NUMBERS)}"}, "spec": {"containers": containers, **spec}}


def handler(cri: FakeCri, name: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        for one in list(cri.sandboxes.values()):
            if one["metadata"]["name"] == name:
                return str(one["runtime_handler"])
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("tier", "wanted"), [("vm", "alcove"), ("kata", "kata"), ("gvisor", "runsc"), ("process", "runc")]
)
def test_each_tier_has_its_handler(platform: Platform, cri: FakeCri, tier: str, wanted: str) -> None:
    client = Client(platform.socket.parent)
    made = client.call("POST", f"{PODS}?isolation={tier}", pod())
    assert (made["alcove"]["isolation"], handler(cri, made["metadata"]["name"])) == (tier, wanted)
    classed = client.call("POST", PODS, pod(runtimeClassName=wanted))
    assert (classed["alcove"]["isolation"], handler(cri, classed["metadata"]["name"])) == (tier, wanted)


def test_kata_is_refused_where_it_is_not_installed(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "has_kata", False)
    with pytest.raises(InvalidRequest, match="Kata Containers is not installed") as refused:
        Client(platform.socket.parent).call("POST", f"{PODS}?isolation=kata", pod())
    assert refused.value.hint == "install it and restart the server, or choose another isolation"
    command = [*COMMAND, "run", "--run", str(platform.socket.parent), "--isolation", "kata", "registry.test/c:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "choose another isolation" in done.stderr


@pytest.mark.parametrize("tier", ["kata", "gvisor", "process"])
def test_a_kernel_of_its_own_is_a_machines(platform: Platform, tier: str) -> None:
    asked = pod()
    asked["metadata"]["annotations"] = {"io.alcove.kernel": "other"}
    with pytest.raises(InvalidRequest, match="no kernel of an instance's own") as refused:
        Client(platform.socket.parent).call("POST", f"{PODS}?isolation={tier}", asked)
    assert refused.value.hint == "choose vm"


def test_kata_is_the_operators_to_choose(platform: Platform) -> None:
    keys = {"access_key": platform.access_key, "secret": platform.secret}
    status, _, told = send(platform.port, "POST", f"{PODS}?isolation=kata", json.dumps(pod()).encode(), **keys)
    assert (status, b"operator" in told) == (403, True)
