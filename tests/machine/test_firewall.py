"""The rules as the kernel takes them, in a namespace of the test's own."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from alcove.errors import HostError
from alcove.host import firewall, nftables


@pytest.fixture
def namespace() -> Iterator[str]:
    assert os.geteuid() == 0, "nftables needs root"
    name = f"alcove-unit-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def load(namespace: str, rules: str, *, tolerant: bool = False) -> None:
    """Load rules in a thread of its own, which enters the namespace."""

    def work() -> None:
        with open(f"/run/netns/{namespace}") as file:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.setns(file.fileno(), 0) == 0
        with nftables.Nftables() as nft:
            nft.load(rules, tolerant=tolerant)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(work).result()


def listed(namespace: str, *what: str) -> list[dict[str, Any]]:
    argv = ["ip", "netns", "exec", namespace, "nft", "-j", "list", *what]
    found = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)["nftables"]
    return [entry for entry in found if "metainfo" not in entry]


def elements(namespace: str) -> int:
    (found,) = listed(namespace, "set", "bridge", "alcove", "ports")
    return len(found["set"].get("elem", []))


def test_rules_load_and_load_again(namespace: str) -> None:
    for _ in range(2):
        load(namespace, firewall.inside_rules())
        load(namespace, firewall.host_rules("tag", "alctag", "100.127.0.2"))
    chains = [entry["chain"] for entry in listed(namespace, "ruleset") if "chain" in entry]
    policies = {(chain["table"], chain["name"]): chain.get("policy") for chain in chains}
    assert policies["alcove", "forward"] == "drop"
    assert policies["alcove", "input"] == "drop"
    assert len([chain for chain in chains if chain["table"] == "alcove-tag"]) == 3


def test_ports_come_and_go(namespace: str) -> None:
    load(namespace, firewall.inside_rules())
    port = ("t5", "02:a1:0a:ab:00:05", "10.171.0.5")
    load(namespace, firewall.add_port(*port))
    load(namespace, firewall.add_bridge("b-1"))
    assert elements(namespace) == 1
    load(namespace, firewall.remove_port(*port))
    assert elements(namespace) == 0
    # Gone already: an error, unless that is as good.
    with pytest.raises(HostError):
        load(namespace, firewall.remove_port(*port))
    load(namespace, firewall.remove_port(*port), tolerant=True)


def test_bad_rules_are_refused_whole(namespace: str) -> None:
    load(namespace, firewall.inside_rules())
    with pytest.raises(HostError, match="nft refuses"):
        load(namespace, firewall.add_port("t6", "02:a1:0a:ab:00:06", "10.171.0.6") + "\nnonsense\n")
    assert elements(namespace) == 0


def test_without_the_library_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "_LIBRARY", "libnowhere.so.1")
    with pytest.raises(HostError) as caught:
        nftables.Nftables()
    assert "nftables" in caught.value.hint


def test_link_local_addresses_are_guarded_at_both_ends() -> None:
    assert "169.254.0.0/16" in firewall.inside_rules()
    assert "169.254.0.0/16 drop" in firewall.host_rules("tag", "alctag", "100.127.0.2")
