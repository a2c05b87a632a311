"""Where outside sources may be: a tenant names a host, the operator says which networks that may lead into.

By default that is any network but this host itself (loopback, its own addresses, the sandboxes' network), link-local
addresses (metadata services) and what is nobody's. The address that was checked is the one that is connected to, so a
name that resolves to something else a moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from alcove.errors import InvalidRequest
from alcove.sources.source import SourceUnavailable

# "Endpoint" of the Lambda API.
_ENDPOINT = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}):([0-9]{1,5})")
ENDPOINT_LIMIT = 300
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class AddressRefused(SourceUnavailable):
    pass


def parse_endpoint(text: str) -> tuple[str, int]:
    """Return host and port. Raises ``InvalidRequest``."""
    found = _ENDPOINT.fullmatch(text) if len(text) <= ENDPOINT_LIMIT else None
    if found is None or not 0 < int(found[2]) < 65_536:
        raise InvalidRequest(f"{text[:100]!r} is not HOST:PORT.")
    return found[1], int(found[2])


@dataclass(frozen=True, slots=True)
class AddressRule:
    """``allowed``: networks that sources may be in; empty: the default. ``refused``: never, in the default."""

    allowed: tuple[Network, ...] = ()
    refused: tuple[Network, ...] = ()

    def permits(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if self.allowed:
            return any(address in network for network in self.allowed)
        nobody = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
        if nobody or address.is_reserved or any(address in network for network in self.refused):
            return False
        return not _is_ours(address)

    async def resolve(self, endpoint: str) -> tuple[str, int]:
        """Return an address that may be connected to. Raises ``AddressRefused``, ``SourceUnavailable``."""
        host, port = parse_endpoint(endpoint)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise SourceUnavailable(f"the name {host} cannot be resolved") from error
        for _, _, _, _, address in found:
            if self.permits(ip_address(str(address[0]).partition("%")[0])):
                return str(address[0]), port
        raise AddressRefused(
            f"{host} is not in a network that event sources may be in", hint="the operator sets --source-networks"
        )


def _is_ours(address: Address) -> bool:
    """Tell whether this host has the address: only then a socket can be bound to it."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
        return True
