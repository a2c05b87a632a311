"""The rules as the kernel takes them, in a namespace of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from alcove.errors import HostError
from alcove.host import firewall


@pytest.fixture
def namespace() -> Iterator[str]:
    assert os.geteuid() == 0, "nftables needs root"
    name = f"alcove-unit-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def listed(namespace: str, *what: str) -> list[dict[str, Any]]:
    argv = ["ip", "netns", "exec", namespace, "nft", "-j", "list", *what]
    found = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)["nftables"]
    return [entry for entry in found if "metainfo" not in entry]


def elements(namespace: str) -> int:
    (found,) = listed(namespace, "set", "bridge", "alcove", "ports")
    return len(found["set"].get("elem", []))


def test_rules_load_and_load_again(namespace: str) -> None:
    for _ in range(2):
        firewall.load(firewall.inside_rules(), namespace=namespace)
        firewall.load(firewall.host_rules("tag", "alctag", "100.127.0.2"), namespace=namespace)
    chains = [entry["chain"] for entry in listed(namespace, "ruleset") if "chain" in entry]
    policies = {(chain["table"], chain["name"]): chain.get("policy") for chain in chains}
    assert policies["alcove", "forward"] == "drop"
    assert policies["alcove", "input"] == "drop"
    assert len([chain for chain in chains if chain["table"] == "alcove-tag"]) == 3


def test_ports_come_and_go(namespace: str) -> None:
    firewall.load(firewall.inside_rules(), namespace=namespace)
    port = ("t5", "02:a1:0a:ab:00:05", "10.171.0.5")
    firewall.load(firewall.add_port(*port), namespace=namespace)
    firewall.load(firewall.add_bridge("b-1"), namespace=namespace)
    assert elements(namespace) == 1
    firewall.load(firewall.remove_port(*port), namespace=namespace)
    assert elements(namespace) == 0
    # Gone already: an error, unless that is as good.
    with pytest.raises(HostError):
        firewall.load(firewall.remove_port(*port), namespace=namespace)
    firewall.load(firewall.remove_port(*port), namespace=namespace, tolerant=True)


def test_bad_rules_are_refused_whole(namespace: str) -> None:
    firewall.load(firewall.inside_rules(), namespace=namespace)
    with pytest.raises(HostError, match="nft refuses"):
        firewall.load(firewall.add_port("t6", "02:a1:0a:ab:00:06", "10.171.0.6") + "\nnonsense\n", namespace=namespace)
    assert elements(namespace) == 0


def test_without_nft_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError) as caught:
        firewall.load("")
    assert "nftables" in caught.value.hint


def test_link_local_addresses_are_guarded_at_both_ends() -> None:
    assert "169.254.0.0/16" in firewall.inside_rules()
    assert "169.254.0.0/16 drop" in firewall.host_rules("tag", "alctag", "100.127.0.2")
