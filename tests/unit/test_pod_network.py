"""The messages by which a pod's guest takes the place of the interface that was made for it."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from alcove.guest import nic

_NEW_ADDRESS, _OLD_ADDRESS, _NEW_ROUTE = 20, 21, 24


def test_addresses_routes_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nic, "_RESOLVER", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(nic, "_IPV6", str(tmp_path))
    (tmp_path / "eth0").mkdir()
    card: Any = nic.Nic.__new__(nic.Nic)
    card.name, card._index, card._mtu, card._resolver, card._address, card._addresses = "eth0", 2, 1500, "", None, []
    sent: list[bytes] = []
    card._send = lambda *messages: sent.extend(messages)
    card._request = lambda number, value: None
    network = {
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "addresses": ["10.1.2.3/24", "fd00::3/64"],
        "routes": [
            {"to": "169.254.1.1/32", "via": None},
            {"to": "default", "via": "169.254.1.1", "priority": 7},
            {"to": "::/0", "via": "fd00::1"},
        ],
        "dns": ["10.96.0.10"],
        "search": ["default.svc.cluster.local"],
        "options": ["ndots:5"],
    }
    card.configure(network)
    text = "nameserver 10.96.0.10\nsearch default.svc.cluster.local\noptions ndots:5\n"
    assert (tmp_path / "resolv.conf").read_text() == text
    kinds = [struct.unpack_from("4xH", message)[0] for message in sent]
    assert kinds == [_NEW_ADDRESS, _NEW_ADDRESS, _NEW_ROUTE, _NEW_ROUTE, _NEW_ROUTE]
    assert [(message[16], message[17]) for message in sent[:2]] == [(socket.AF_INET, 24), (socket.AF_INET6, 64)]
    assert socket.inet_aton("10.1.2.3") in sent[0]
    assert socket.inet_pton(socket.AF_INET6, "fd00::3") in sent[1]
    near, default, other = sent[2:]
    assert (other[16], other[17]) == (socket.AF_INET6, 0)
    assert socket.inet_pton(socket.AF_INET6, "fd00::1") in other
    # Addresses that the network gives are all there are: no router's word is taken.
    assert {path.name: path.read_text() for path in (tmp_path / "eth0").iterdir()} == {
        "accept_ra": "0",
        "disable_ipv6": "0",
    }
    assert (near[17], near[22], default[17], default[22]) == (32, 253, 0, 0)
    assert socket.inet_aton("169.254.1.1") in default
    sent.clear()
    card.release()
    assert [struct.unpack_from("4xH", message)[0] for message in sent] == [_OLD_ADDRESS] * 2
    card.release()
    assert len(sent) == 2
