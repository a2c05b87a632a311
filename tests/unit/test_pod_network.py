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
    card: Any = nic.Nic.__new__(nic.Nic)
    card._index, card._mtu, card._resolver, card._address, card._addresses = 2, 1500, "", None, []
    sent: list[bytes] = []
    card._send = lambda *messages: sent.extend(messages)
    card._request = lambda number, value: None
    network = {
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "addresses": ["10.1.2.3/24", "fd00::3/64"],
        "routes": [{"to": "169.254.1.1/32", "via": None}, {"to": "default", "via": "169.254.1.1", "priority": 7}],
        "dns": ["10.96.0.10"],
        "search": ["default.svc.cluster.local"],
        "options": ["ndots:5"],
    }
    card.configure(network)
    text = "nameserver 10.96.0.10\nsearch default.svc.cluster.local\noptions ndots:5\n"
    assert (tmp_path / "resolv.conf").read_text() == text
    assert [struct.unpack_from("4xH", message)[0] for message in sent] == [_NEW_ADDRESS, _NEW_ROUTE, _NEW_ROUTE]
    assert sent[0][17] == 24
    assert socket.inet_aton("10.1.2.3") in sent[0]
    near, default = sent[1:]
    assert (near[17], near[22], default[17], default[22]) == (32, 253, 0, 0)
    assert socket.inet_aton("169.254.1.1") in default
    sent.clear()
    card.release()
    assert [struct.unpack_from("4xH", message)[0] for message in sent] == [_OLD_ADDRESS]
    card.release()
    assert len(sent) == 1
