"""Instances by the API, where no containerd answers: who may ask for what, and what is written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.parity.conftest import Platform
from tests.parity.signing import send

from alcove.cli.client import Client
from alcove.errors import Conflict, NotFound

PODS = "/alcove/v1/pods"
CONTAINER = {"name": "c", "image": "i"}


def ask(platform: Platform, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    body = b"" if document is None else json.dumps(document).encode()
    status, _, answer = send(platform.port, method, path, body, access_key=platform.access_key, secret=platform.secret)
    return status, json.loads(answer)


@pytest.mark.parametrize(
    ("spec", "isolation"),
    [
        ({}, "process"),
        ({"runtimeClassName": "runsc"}, ""),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ""),
        ({"containers": [CONTAINER | {"ports": [{"containerPort": 1, "hostPort": 1}]}]}, ""),
        ({"containers": [CONTAINER | {"securityContext": {"privileged": True}}]}, ""),
        ({"initContainers": [{"name": "d", "image": "i", "securityContext": {"privileged": True}}]}, ""),
    ],
)
def test_what_reaches_the_host_is_the_operators(platform: Platform, spec: dict[str, Any], isolation: str) -> None:
    path = f"{PODS}?isolation={isolation}" if isolation else PODS
    status, told = ask(platform, "POST", path, {"spec": {"containers": [CONTAINER], **spec}})
    assert status == 403, told
    assert "operator" in told["Message"]


def test_a_manifest_that_is_wrong_is_refused_by_its_place(platform: Platform) -> None:
    status, told = ask(platform, "POST", PODS, {"spec": {"containers": [CONTAINER | {"imagePull": "x"}]}})
    assert status == 400
    assert "$.spec.containers[0]" in told["Message"]


def test_an_instance_is_its_tenants(platform: Platform) -> None:
    status, made = ask(platform, "POST", PODS, {"metadata": {"name": "mine"}, "spec": {"containers": [CONTAINER]}})
    assert (status, made["alcove"]["isolation"], made["status"]["phase"]) == (201, "vm", "Pending")
    assert ask(platform, "POST", PODS, {"metadata": {"name": "mine"}, "spec": {"containers": [CONTAINER]}})[0] == 409
    others = send(
        platform.port, "GET", f"{PODS}/mine", access_key=platform.other_access_key, secret=platform.other_secret
    )
    assert others[0] == 404
    assert "mine" in [one["metadata"]["name"] for one in ask(platform, "GET", PODS)[1]["items"]]
    status, gone = ask(platform, "DELETE", f"{PODS}/mine?grace=0")
    assert (status, gone["metadata"]["name"]) == (202, "mine")
    # The runtime does not answer: it is there until it is known to be gone.
    assert ask(platform, "GET", f"{PODS}/mine")[1]["metadata"]["deletionGracePeriodSeconds"] == 0


def test_the_operator_chooses_the_tier(platform: Platform) -> None:
    client = Client(platform.socket.parent)
    document = {"metadata": {"name": "tier"}, "spec": {"containers": [CONTAINER], "runtimeClassName": "alcove"}}
    with pytest.raises(NotFound):
        client.call("GET", f"{PODS}/tier")
    made = client.call("POST", f"{PODS}?isolation=vm", document)
    assert made["alcove"]["isolation"] == "vm"
    with pytest.raises(Conflict):
        client.call("POST", PODS, document)
