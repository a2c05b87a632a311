"""Where outside sources may be."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.sources.address import AddressRefused, AddressRule, parse_endpoint


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "10.212.3.4"),
    ],
)
def test_this_host_and_what_is_special_are_refused(address: str) -> None:
    assert not AddressRule(refused=(ip_network("10.212.0.0/16"),)).permits(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "10.1.2.3", "192.168.77.3", "2001:4860:4860::8888"])
def test_other_hosts_are_permitted(address: str) -> None:
    assert AddressRule(refused=(ip_network("10.212.0.0/16"),)).permits(ip_address(address))


def test_the_operator_s_networks_are_all_there_is() -> None:
    rule = AddressRule((ip_network("127.0.0.0/8"), ip_network("10.0.0.0/24")))
    assert rule.permits(ip_address("127.0.0.1"))
    assert rule.permits(ip_address("::ffff:10.0.0.9"))
    assert not rule.permits(ip_address("10.0.1.1"))
    assert not rule.permits(ip_address("8.8.8.8"))
    assert not rule.permits(ip_address("::1"))


def test_this_host_s_own_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.sources.address._is_ours", lambda address: str(address) == "192.0.0.77")
    assert not AddressRule().permits(ip_address("192.0.0.77"))
    assert AddressRule().permits(ip_address("192.0.1.77"))


async def test_names_are_judged_by_what_they_mean() -> None:
    assert await AddressRule((ip_network("127.0.0.0/8"),)).resolve("localhost:6379") == ("127.0.0.1", 6379)
    with pytest.raises(AddressRefused):
        await AddressRule().resolve("localhost:6379")
    with pytest.raises(AddressRefused):
        await AddressRule().resolve("2130706433:6379")


@given(st.text())
def test_an_endpoint_is_host_and_port(text: str) -> None:
    try:
        host, port = parse_endpoint(text)
    except InvalidRequest:
        return
    assert f"{host}:{port:0{len(text.rpartition(':')[2])}d}" == text
    assert 0 < port < 65_536
