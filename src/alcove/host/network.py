"""The network of one instance: a namespace of its own in which each tenant has a bridge.

The namespace ``alcove-<tag>`` holds a bridge for each tenant, the sandboxes' ports on them, and one veth to the host.
A sandbox's address is unique in the instance and set when its port is made, ahead; the gateway has the same address
on every bridge, and a /32 route leads to each sandbox. Claiming a port for a tenant is then three netlink messages:
its master, its route, its neighbour entry.

What is filtered where: ``firewall`` explains. Nothing that a sandbox sends reaches another tenant, the host's own
services, another instance or a link-local address (cloud metadata); everything else goes out by NAT. IPv6 is off.
One address, ``SERVICE_ADDRESS``, is ours: it is the namespace's own, and leads to the sockets that ``listen`` makes.
The namespace outlives its daemon, and with it the sandboxes' connections: ``setup`` keeps what it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import hashlib
import ipaddress
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from alcove.errors import CapacityError, HostError
from alcove.host import firewall, iproute
from alcove.host.nftables import Nftables
from alcove.host.ports import Tap, Veth, open_tap
from alcove.host.threads import finish, to_the_end

__all__ = ["DEFAULT_SUBNET", "Network", "Tap", "Veth", "remove"]

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_RT_TABLE_MAIN = 254
DEFAULT_SUBNET = "10.171.0.0/16"
# Where sandboxes reach us, in every instance the same: it is in snapshots. The sockets that answer there are made
# inside the namespace, so nothing of the host's own is any nearer.
SERVICE_ADDRESS = firewall.SERVICE_ADDRESS
API_PORT, S3_PORT = firewall.SERVICE_PORTS


class Network:
    """See the module's docstring. ``setup`` before anything else; ``teardown`` leaves nothing."""

    def __init__(self, tag: str, *, subnet: str = DEFAULT_SUBNET, dns: Iterable[str] = (), mtu: int = 1500) -> None:
        self.tag = tag
        self.namespace = f"alcove-{tag}"
        self.uplink = f"alc{tag}"
        self._subnet = ipaddress.ip_network(subnet)
        self.gateway = str(self._subnet[1])
        # One of 16,384 link networks of shared address space (RFC 6598), by tag.
        link = ipaddress.ip_network("100.127.0.0/16")
        offset = int(hashlib.sha256(tag.encode()).hexdigest()[:4], 16) % 16384 * 4
        self.link_host, self.link_inside = str(link[offset + 1]), str(link[offset + 2])
        self.dns = tuple(dns) or iproute.upstream_resolvers()
        self.mtu = mtu
        self._used: set[str] = set()
        self._tenants: dict[str, str] = {}
        # At random: a daemon that restarts does not hand out again what the last one has just freed.
        self._next = 2 + secrets.randbelow(self._subnet.num_addresses - 3)
        self._bridges: dict[str, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alcove-network")
        self._inside = False
        self._route: Any = None
        self._nft: Any = None

    # Set-up

    async def setup(self) -> None:
        """Make the namespace, its link to the host and the rules; what is there already is kept."""
        await to_the_end(self._setup)
        await self._run(self._open)

    def _setup(self) -> None:
        if not Path("/dev/net/tun").exists():
            raise HostError("/dev/net/tun does not exist", hint="modprobe tun")
        iproute.join_host(self.namespace, self.uplink, self.link_host, self.link_inside)
        # The rules below confine it to what the sandboxes may do.
        iproute.forward()
        with Nftables() as nft:
            nft.load(firewall.host_rules(self.tag, self.uplink, self.link_inside))

    def _open(self) -> None:
        """Move the network thread into the namespace: its sockets and taps are made there."""
        if self._inside:
            return
        fd = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(fd, _CLONE_NEWNET):
                raise HostError(f"cannot enter {self.namespace}: {os.strerror(ctypes.get_errno())}")
        finally:
            os.close(fd)
        from pyroute2 import IPRoute

        self._route = IPRoute()
        self._nft = Nftables()
        self._nft.load(firewall.inside_rules())
        self._inside = True

    async def listen(self, port: int) -> socket.socket:
        """Return a bound socket at ``SERVICE_ADDRESS``, for what answers sandboxes there."""
        return await self._run(self._listen, port)

    def _listen(self, port: int) -> socket.socket:
        self._route.addr("replace", index=self._index("lo"), address=SERVICE_ADDRESS, prefixlen=32)
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((SERVICE_ADDRESS, port))
        except BaseException:
            listening.close()
            raise
        return listening

    def tenant_at(self, address: str) -> str | None:
        """Return whose sandbox has the address now."""
        return self._tenants.get(address)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await finish(self._submit(work, *arguments))

    def _submit(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    # Ports

    async def tap(self) -> Tap:
        """Make a port ahead, on no bridge. Raises ``CapacityError`` when no address is left."""
        address = self._allocate()
        making = self._submit(self._make_tap, address)
        try:
            return await finish(making)
        except BaseException:
            if making.done() and not making.cancelled() and making.exception() is None:
                await self.release(making.result())
            self._used.discard(address)
            raise

    def _allocate(self) -> str:
        """Take the next address, round the whole subnet: one that was freed (and the MAC made of it) comes last."""
        places = self._subnet.num_addresses - 3
        for _ in range(places):
            address = str(self._subnet[self._next])
            self._next = 2 + (self._next - 1) % places
            if address not in self._used:
                break
        else:
            raise CapacityError(f"no address is left in {self._subnet}", hint="choose a larger --subnet")
        self._used.add(address)
        return address

    def _port(self, address: str) -> tuple[str, str]:
        offset = int(ipaddress.ip_address(address)) - int(self._subnet.network_address)
        octets = ipaddress.ip_address(address).packed
        return f"t{offset}", "02:a1:" + ":".join(f"{octet:02x}" for octet in octets)

    def _make_tap(self, address: str) -> Tap:
        name, mac = self._port(address)
        try:
            fd = open_tap(name)
        except OSError as error:
            raise HostError(f"a tap cannot be made: {error}", hint="check /dev/net/tun") from error
        try:
            self._nft.load(firewall.add_port(name, mac, address))
        except BaseException:
            os.close(fd)
            raise
        return Tap(name, fd, address, mac, self.gateway, self.dns, self.mtu, self._index(name))

    async def veth(self, tenant: str | None = None) -> Veth:
        """Make a container's port ahead, on no bridge unless ``tenant`` is given; ``attach`` and ``release``
        take it.
        """
        address = self._allocate()
        name, mac = self._port(address)
        port = self._veth(name, address, mac)
        try:
            await to_the_end(
                iproute.join_container,
                self.namespace,
                port.namespace,
                port.name,
                mac=mac,
                address=address,
                gateway=self.gateway,
                mtu=self.mtu,
            )
            await self._run(lambda: self._nft.load(firewall.add_port(name, mac, address)))
            port.index = await self._run(self._index, name)
            if tenant is not None:
                await self.attach(port, tenant)
        except BaseException:
            await self.release(port)
            raise
        return port

    async def adopt_veth(self, address: str) -> Veth:
        """Take over, to release it, the port of a container that an earlier daemon started."""
        self._used.add(address)
        name, mac = self._port(address)
        return self._veth(name, address, mac)

    def _veth(self, name: str, address: str, mac: str) -> Veth:
        namespace = f"{self.namespace}-{name}"
        return Veth(name, -1, address, mac, self.gateway, self.dns, self.mtu, namespace=namespace)

    async def attach(self, tap: Tap, tenant: str) -> None:
        """Connect the port to the tenant's bridge, which is made on demand."""
        tap.tenant = tenant
        self._tenants[tap.address] = tenant
        await self._run(self._attach, tap.index, tap.address, tap.mac, tenant)

    def _attach(self, port: int, address: str, mac: str, tenant: str) -> None:
        bridge = self._bridge(tenant)
        self._route.link("set", index=port, master=bridge, state="up")
        self._route.route("replace", dst=f"{address}/32", oif=bridge, scope="link")
        self._route.neigh("replace", dst=address, lladdr=mac, ifindex=bridge, state="permanent")

    def _index(self, name: str) -> int:
        found = self._route.link_lookup(ifname=name)
        if not found:
            raise HostError(f"the network device {name} is gone")
        return int(found[0])

    def _bridge(self, tenant: str) -> int:
        """Return the index of the tenant's bridge, made now where it is not there.

        A bridge that an earlier daemon made is finished first: it may have been killed on the way.
        """
        name = _bridge_name(tenant)
        index = self._bridges.get(name)
        if index is None:
            if not self._route.link_lookup(ifname=name):
                self._route.link("add", ifname=name, kind="bridge")
            index = self._index(name)
            # A bridge without an address of its own takes the lowest of its ports': each change of it makes the kernel
            # forget every neighbour, the permanent ones too (neigh_changeaddr).
            self._route.link("set", index=index, address=self._port(self.gateway)[1])
            self._route.addr("replace", index=index, address=self.gateway, prefixlen=32)
            self._route.link("set", index=index, state="up")
            self._nft.load(firewall.add_bridge(name))
            self._bridges[name] = index
        return index

    async def release(self, tap: Tap) -> None:
        """Close our end and forget the port; the device goes when its last holder does."""
        # The last who closes a tap waits while the kernel takes the device away: not on the loop.
        await self._run(tap.close)
        if tap.address in self._used:
            await self._run(self._forget, tap.name, tap.mac, tap.address, tap.tenant)
            self._used.discard(tap.address)
            self._tenants.pop(tap.address, None)
        if isinstance(tap, Veth) and tap.namespace_path.exists():
            await to_the_end(iproute.ip, "netns", "del", tap.namespace)

    def _forget(self, name: str, mac: str, address: str, tenant: str | None) -> None:
        self._nft.load(firewall.remove_port(name, mac, address), tolerant=True)
        self._delete_link(name)
        if tenant is not None:
            for bridge in self._route.link_lookup(ifname=_bridge_name(tenant)):
                self._disconnect(address, bridge)

    def _delete_link(self, name: str) -> None:
        for index in self._route.link_lookup(ifname=name):
            with _gone_is_fine():
                self._route.link("del", index=index)

    def _disconnect(self, address: str, bridge: int) -> None:
        """Undo ``_attach``, but for the port itself."""
        with _gone_is_fine():
            # Without a scope it matches none but global routes.
            self._route.route("del", dst=f"{address}/32", oif=bridge, scope="nowhere")
        with _gone_is_fine():
            self._route.neigh("del", dst=address, ifindex=bridge)

    async def adopt(self, address: str, tenant: str | None) -> Tap:
        """Take over the port of a machine that an earlier daemon started; its tap is in that machine's hands alone."""
        self._used.add(address)
        if tenant is not None:
            self._tenants[address] = tenant
        name, mac = self._port(address)
        return Tap(name, -1, address, mac, self.gateway, self.dns, self.mtu, tenant=tenant)

    async def recover(self, known: set[str]) -> None:
        """Forget every port whose address is not ``known``: what a killed daemon left."""
        names = {self._port(address)[0] for address in known}
        await self._run(self._recover, known, names)
        await to_the_end(iproute.remove_namespaces, self.namespace, names)

    def _recover(self, known: set[str], names: set[str]) -> None:
        # A tap went with its machine, but not its place in the rules: those are made anew.
        self._nft.load(firewall.set_ports((*self._port(address), address) for address in sorted(known)))
        for link in self._route.get_links():
            name = link.get_attr("IFLA_IFNAME")
            if name.startswith("t") and name[1:].isdigit() and name not in names:
                self._delete_link(name)
        for route in self._route.get_routes(family=socket.AF_INET, table=_RT_TABLE_MAIN):
            address = route.get_attr("RTA_DST")
            if route["dst_len"] == 32 and address not in known:
                self._disconnect(address, route.get_attr("RTA_OIF"))

    def sample_config(self) -> dict[str, Any]:
        """Return a guest's configuration by which a template rehearses its own: the address (RFC 5737) is nobody's."""
        return Tap("", -1, "192.0.2.1", "02:00:00:00:00:02", self.gateway, self.dns, self.mtu).guest_config()

    async def close(self) -> None:
        """Let go of the namespace without removing it: machines that are kept go on using it."""
        await self._run(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._inside:
            self._route.close()
            self._nft.close()

    async def teardown(self) -> None:
        """Remove the namespace and the rules."""
        await self.close()
        await to_the_end(remove, self.tag)


def _bridge_name(tenant: str) -> str:
    return "b-" + hashlib.sha256(tenant.encode()).hexdigest()[:12]


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    from pyroute2 import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.ENODEV, errno.ENOENT, errno.ESRCH):
            raise


def remove(tag: str) -> None:
    """Remove all that the instance with this tag has in the network. Idempotent."""
    with Nftables() as nft:
        nft.load(firewall.no_host_rules(tag), tolerant=True)
    iproute.remove_namespaces(f"alcove-{tag}", set())
    if Path(f"/run/netns/alcove-{tag}").exists():
        iproute.ip("netns", "del", f"alcove-{tag}")
    if Path(f"/sys/class/net/alc{tag}").exists():
        with contextlib.suppress(HostError):
            iproute.ip("link", "del", f"alc{tag}")
    iproute.stop_forwarding()
