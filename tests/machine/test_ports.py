"""The instance's network by itself: containers' namespaces stand for guests, one more for the world outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.machine.lab import command

from alcove.host import network as module
from alcove.host.network import Network, Veth

pytestmark = pytest.mark.machine

SERVE = """
import socket, sys
server = socket.create_server(("0.0.0.0", 9000))
print("ready", flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall(sys.argv[1].encode())
    connection.close()
"""
CONNECT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 9000), timeout=0.7) as connection:
        print(connection.recv(99).decode())
except OSError as error:
    print(type(error).__name__)
"""
# A UDP datagram or an ARP reply, made by hand: whoever owns the guest's kernel writes what it likes.
FORGE = """
import socket, struct, sys
what, source_mac, source, destination, gateway_mac = sys.argv[1:]
mac = lambda text: bytes.fromhex(text.replace(":", ""))
if what == "arp":
    body = struct.pack(">HHBBH", 1, 0x800, 6, 4, 2) + mac(source_mac) + socket.inet_aton(source)
    frame = b"\\xff" * 6 + mac(source_mac) + b"\\x08\\x06" + body + b"\\0" * 6 + socket.inet_aton(destination)
else:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 33, 1, 0, 64, 17, 0)
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", 0xFFFF - total & 0xFFFF) + head[12:]
    frame = mac(gateway_mac) + mac(source_mac) + b"\\x08\\x00" + head + struct.pack(">HHHH", 9, 9001, 13, 0) + b"false"
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
raw.send(frame)
"""
LISTEN = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 9001))
server.settimeout(1)
print("ready", flush=True)
try:
    print(server.recvfrom(99)[1][0])
except TimeoutError:
    print("nothing")
"""


def inside(namespace: str, source: str, *arguments: str) -> subprocess.Popen[bytes]:
    argv = ["ip", "netns", "exec", namespace, sys.executable, "-c", source, *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


async def answer(process: subprocess.Popen[bytes]) -> str:
    out, _ = await asyncio.to_thread(process.communicate)
    return out.decode().strip()


async def connect(port: Veth, address: str) -> str:
    return await answer(inside(port.namespace, CONNECT, address))


@contextlib.contextmanager
def serving(namespace: str, words: str) -> Iterator[None]:
    server = inside(namespace, SERVE, words)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        server.kill()
        server.communicate()


@dataclass
class World:
    """A namespace outside, where a server greets who comes, and a tag that nobody else has."""

    tag: str
    address: str = "203.0.113.2"


@pytest.fixture
def world() -> Iterator[World]:
    tag = secrets.token_hex(4)
    name, device = f"alcove-world-{tag}", f"wld{tag}"
    command("ip", "netns", "add", name)
    try:
        command("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
        command("ip", "addr", "add", "203.0.113.1/30", "dev", device)
        command("ip", "link", "set", device, "up")
        command("ip", "-n", name, "addr", "add", "203.0.113.2/30", "dev", "eth0")
        command("ip", "-n", name, "link", "set", "eth0", "up")
        with serving(name, "world"):
            yield World(tag)
    finally:
        command("ip", "netns", "del", name)
        with contextlib.suppress(subprocess.CalledProcessError):
            command("ip", "link", "del", device)
        module.remove(tag)


@pytest.fixture
async def network(world: World) -> AsyncIterator[Network]:
    network = Network(world.tag)
    await network.setup()
    yield network
    await network.teardown()
    assert leftovers(world.tag) == []


def leftovers(tag: str) -> list[str]:
    found = [str(path) for path in Path("/run/netns").glob(f"alcove-{tag}*")]
    found += [str(path) for path in Path("/sys/class/net").glob(f"*{tag}*") if not path.name.startswith("wld")]
    return found + [line for line in command("nft", "list", "tables").splitlines() if tag in line]


def rules(tag: str, *what: str) -> list[object]:
    listed = json.loads(command("ip", "netns", "exec", f"alcove-{tag}", "nft", "-j", "list", "set", *what))
    return [element for entry in listed["nftables"] for element in entry.get("set", {}).get("elem", [])]


async def test_who_reaches_whom(network: Network, world: World) -> None:
    own, same, other = await network.veth("a"), await network.veth("a"), await network.veth("b")
    with serving(same.namespace, "same"), serving(other.namespace, "other"):
        assert await connect(own, same.address) == "same"
        assert await connect(own, other.address) == "TimeoutError"
        assert await connect(own, world.address) == "world"
    # A port that no tenant has claimed yet leads nowhere.
    waiting = await network.veth()
    assert await connect(waiting, world.address) in ("TimeoutError", "OSError")


async def test_sandboxes_stay_connected_when_the_daemon_starts_again(network: Network, world: World) -> None:
    """Fixed: the rules were loaded anew with empty sets, and whoever had been adopted was cut off."""
    own, same, other = await network.veth("a"), await network.veth("a"), await network.veth("b")
    with serving(same.namespace, "same"), serving(other.namespace, "other"):
        assert await connect(own, world.address) == "world"
        later = Network(world.tag)
        await later.setup()
        try:
            # At once: also before anything is adopted.
            assert await connect(own, world.address) == "world"
            for port, tenant in ((own, "a"), (same, "a"), (other, "b")):
                await later.adopt(port.address, tenant)
            await later.recover({port.address for port in (own, same, other)})
            assert await connect(own, world.address) == "world"
            assert await connect(own, same.address) == "same"
            assert await connect(own, other.address) == "TimeoutError"
            # Its tenant's bridge is known again, and what is attached to it now joins the others.
            joined = await later.veth("a")
            assert await connect(joined, same.address) == "same"
        finally:
            await later.close()


async def test_ports_that_nobody_adopts_are_forgotten(network: Network, world: World) -> None:
    kept, lost = await network.veth("a"), await network.veth("a")
    tap = await network.tap()
    await network.attach(tap, "a")
    assert len(rules(world.tag, "bridge", "alcove", "ports")) == 3
    # The machine has died, and its tap with it.
    await network._run(lambda: network._route.link("del", index=tap.index))
    # As of a subnet that was larger then: there is no such address now.
    command("ip", "-n", network.namespace, "link", "add", "t70000", "type", "veth", "peer", "name", "gone0")
    await network.recover({kept.address})
    assert len(rules(world.tag, "bridge", "alcove", "ports")) == 1
    assert await connect(kept, world.address) == "world"
    assert not lost.namespace_path.exists()
    names = [link["ifname"] for link in json.loads(command("ip", "-n", network.namespace, "-j", "link"))]
    assert [name for name in names if name.startswith("t")] == [kept.name]
    for what in ("route", "neigh"):
        entries = command("ip", "-n", network.namespace, what).split()
        assert kept.address in entries
        assert not {lost.address, tap.address} & set(entries), what


async def test_a_bridge_that_was_begun_is_finished(network: Network, world: World) -> None:
    port = await network.veth("a")
    # What a daemon leaves that is killed between its first step and its second.
    name = next(iter(network._bridges))
    command("ip", "-n", network.namespace, "addr", "flush", "dev", name)
    command("ip", "-n", network.namespace, "link", "set", name, "down")
    later = Network(world.tag)
    await later.setup()
    try:
        await later.adopt(port.address, "a")
        again = await later.veth("a")
        assert await connect(again, world.address) == "world"
    finally:
        await later.close()


@pytest.mark.parametrize("forged", ["nothing", "address", "mac", "both"])
async def test_forged_datagrams_do_not_arrive(network: Network, world: World, forged: str) -> None:
    own, target = await network.veth("a"), await network.veth("a")
    link = command("ip", "-n", network.namespace, "-j", "link", "show", next(iter(network._bridges)))
    listener = inside(target.namespace, LISTEN)
    assert listener.stdout is not None
    listener.stdout.readline()
    source = str(network._subnet[77]) if forged in ("address", "both") else own.address
    mac = "02:a1:0a:ab:00:4d" if forged in ("mac", "both") else own.mac
    await answer(inside(own.namespace, FORGE, "udp", mac, source, target.address, json.loads(link)[0]["address"]))
    assert await answer(listener) == (own.address if forged == "nothing" else "nothing")


async def test_a_tenants_address_cannot_be_claimed_by_arp(network: Network, world: World) -> None:
    own, victim = await network.veth("a"), await network.veth("a")
    own_arp = [*("arp", own.mac), victim.address, network.gateway, own.mac]
    await answer(inside(own.namespace, FORGE, *own_arp))
    neighbours = json.loads(command("ip", "-n", network.namespace, "-j", "neigh", "show", victim.address))
    assert [entry["lladdr"] for entry in neighbours] == [victim.mac]


async def test_the_gateway_cannot_be_impersonated_by_arp(network: Network, world: World) -> None:
    own, peer = await network.veth("a"), await network.veth("a")
    assert await connect(peer, world.address) == "world"
    before = command("ip", "-n", peer.namespace, "-j", "neigh", "show", network.gateway)
    # An entry that was just made is not changed yet (locktime, arp(7)).
    await asyncio.sleep(1.2)
    await answer(inside(own.namespace, FORGE, "arp", own.mac, network.gateway, peer.address, own.mac))
    after = command("ip", "-n", peer.namespace, "-j", "neigh", "show", network.gateway)
    assert [entry["lladdr"] for entry in json.loads(after)] == [entry["lladdr"] for entry in json.loads(before)]
    assert own.mac not in after


async def test_large_answers_pass_a_narrow_way_out(network: Network, world: World) -> None:
    """The uplink's MTU may be smaller than the sandboxes': path MTU discovery has to work."""
    port = await network.veth("a")
    command("ip", "link", "set", f"wld{world.tag}", "mtu", "1300")
    command("ip", "-n", f"alcove-world-{world.tag}", "link", "set", "eth0", "mtu", "1300")
    sink = "import socket\ns=socket.create_server(('0.0.0.0',9100))\nprint('ready',flush=True)\nc,_=s.accept()\n"
    sink += "n=0\nwhile True:\n d=c.recv(65536)\n if not d: break\n n+=len(d)\nprint(n)"
    server = inside(f"alcove-world-{world.tag}", sink)
    assert server.stdout is not None
    server.stdout.readline()
    send = f"import socket\nwith socket.create_connection(('{world.address}',9100),5) as c: c.sendall(b'x'*300000)"
    async with asyncio.timeout(20):
        await answer(inside(port.namespace, send))
        assert await answer(server) == "300000"


async def test_neighbours_stay_whatever_joins(network: Network, world: World) -> None:
    """Fixed: the bridge took the lowest MAC of its ports, and with each new one the kernel forgot all neighbours."""
    network._next = 500
    first = await network.veth("a")
    network._next = 100
    second = await network.veth("a")
    neighbours = command("ip", "-n", network.namespace, "neigh")
    assert first.address in neighbours
    assert second.address in neighbours


async def test_a_released_port_leaves_no_route_and_no_neighbour(network: Network, world: World) -> None:
    """Fixed: netlink takes off a route only where its scope is told; each sandbox left one behind."""
    port, tap = await network.veth("a"), await network.tap()
    await network.attach(tap, "a")
    inside_it = ("ip", "-n", network.namespace)
    assert tap.address in command(*inside_it, "route")
    assert port.address in command(*inside_it, "neigh")
    for one in (port, tap):
        await network.release(one)
        await network.release(one)
    for what in ("route", "neigh", "link"):
        assert not {port.address, tap.address, port.name, tap.name} & set(command(*inside_it, what).split()), what
    assert rules(world.tag, "bridge", "alcove", "ports") == []


async def test_teardown_and_a_second_one(world: World) -> None:
    network = Network(world.tag)
    await network.setup()
    await network.setup()
    await network.veth("a")
    tap = await network.tap()
    await network.release(tap)
    await network.teardown()
    module.remove(world.tag)
    assert leftovers(world.tag) == []
