"""What a machine reaches, and what it does not: between namespaces on this machine, no real network needed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.machine.lab import Guest, Lab, command, leftovers, until

from alcove.host.network import API_PORT, S3_PORT, SERVICE_ADDRESS

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

SERVER = """
import socket, sys
server = socket.create_server(("0.0.0.0", 8080))
print("ready", flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall(("hello " + peer[0]).encode())
    connection.close()
"""
# What the guest sees when it connects: the greeting, or the name of the error.
CONNECT = """
def connect(address, port):
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return type(error).__name__
result = connect(event["address"], event["port"])
"""


@dataclass
class Internet:
    """A namespace that stands for the world outside, with a server on port 8080."""

    address: str
    host: str


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    """Addresses for documentation (RFC 5737), linked to this host by a pair of devices."""
    import subprocess
    import sys

    name, device = "alcove-test-net", "testnet0"
    command("ip", "netns", "add", name)
    server = None
    try:
        command("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
        command("ip", "addr", "add", "198.51.100.1/24", "dev", device)
        command("ip", "link", "set", device, "up")
        command("ip", "-n", name, "addr", "add", "198.51.100.2/24", "dev", "eth0")
        command("ip", "-n", name, "addr", "add", "169.254.169.254/32", "dev", "eth0")
        for inside in ("lo", "eth0"):
            command("ip", "-n", name, "link", "set", inside, "up")
        # Were the guard missing, the metadata address would be reached.
        command("ip", "route", "add", "169.254.169.254/32", "dev", device)
        server = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield Internet("198.51.100.2", "198.51.100.1")
    finally:
        if server is not None:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()
        command("ip", "netns", "del", name)
        with contextlib.suppress(Exception):
            command("ip", "link", "del", device)


@contextlib.contextmanager
def listener() -> Iterator[int]:
    """A service of this host's own, on every address."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    connection.sendall(b"host")
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()


async def connect(guest: Guest, address: str, port: int) -> str:
    return str(await guest.do(CONNECT, address=address, port=port))


def address(guest: Guest) -> str:
    assert guest.sandbox.resources.tap is not None
    return guest.sandbox.resources.tap.address


SERVE = """
import threading
os.server = socket.create_server(("0.0.0.0", 9000))
def serve():
    while True:
        connection, _ = os.server.accept()
        connection.sendall(b"tenant")
        connection.close()
threading.Thread(target=serve, daemon=True).start()
"""


async def test_the_way_out_is_translated(loaded: Guest, internet: Internet) -> None:
    assert await connect(loaded, internet.address, 8080) == f"hello {internet.host}"


async def test_the_guest_has_the_names_it_was_given(loaded: Guest) -> None:
    tap = loaded.sandbox.resources.tap
    assert tap is not None
    found = await loaded.do(
        "result = [open('/sys/class/net/eth0/address').read().strip(), open('/etc/resolv.conf').read(),"
        " open('/sys/class/net/eth0/mtu').read().strip(), socket.gethostname()]"
    )
    servers = "".join(f"nameserver {server}\n" for server in tap.dns)
    assert found == [tap.mac, servers, str(tap.mtu), f"alcove-{loaded.sandbox.id[2:]}"]


async def test_tenants_do_not_reach_each_other_but_a_tenant_itself(lab: Lab) -> None:
    first = await lab.load(tenant="tenant-a")
    same = await lab.load(tenant="tenant-a")
    other = await lab.load(tenant="tenant-b")
    for guest in (first, other):
        await guest.do(SERVE)
    assert await connect(same, address(first), 9000) == "tenant"
    assert await connect(other, address(first), 9000) in ("TimeoutError", "OSError", "ConnectionRefusedError")
    assert await connect(first, address(other), 9000) in ("TimeoutError", "OSError", "ConnectionRefusedError")


async def test_the_host_is_out_of_reach(lab: Lab, loaded: Guest, internet: Internet) -> None:
    addresses = [lab.network.gateway, lab.network.link_host, lab.network.link_inside, internet.host]
    for link in json.loads(command("ip", "-j", "-4", "addr")):
        addresses += [info["local"] for info in link["addr_info"] if link["ifname"] != "lo"]
    with listener() as port:
        for target in dict.fromkeys(addresses):
            with socket.create_connection((internet.host, port)) as check:
                assert check.recv(10) == b"host"
            assert await connect(loaded, target, port) != "host", target


async def test_metadata_addresses_are_out_of_reach(loaded: Guest, internet: Internet) -> None:
    with socket.create_connection(("169.254.169.254", 8080), timeout=2) as check:
        assert check.recv(100).startswith(b"hello")
    answer = await connect(loaded, "169.254.169.254", 8080)
    assert not answer.startswith("hello")


@contextlib.contextmanager
def answering(*listening: socket.socket) -> Iterator[None]:
    """Servers on sockets that are bound, each of which names its port."""
    done = threading.Event()

    def serve(server: socket.socket) -> None:
        server.listen()
        server.settimeout(0.1)
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                connection.sendall(b"port %d" % server.getsockname()[1])
                connection.close()
        server.close()

    threads = [threading.Thread(target=serve, args=(one,)) for one in listening]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def bound_inside(address: str, port: int) -> socket.socket:
    """A socket in the instance's namespace; call it in the network's thread, which is there."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    return made


async def test_sandboxes_reach_our_service_and_nothing_beside_it(lab: Lab) -> None:
    """Everything that could be mistaken for it is listened at: other ports of its address, its ports elsewhere."""
    mine, other = await lab.load(tenant="tenant-a"), await lab.load(tenant="tenant-b")
    network = lab.network
    wildcard = await network._run(bound_inside, "0.0.0.0", 8081)
    others = [await network._run(bound_inside, at, API_PORT) for at in (network.gateway, network.link_inside)]
    with (
        answering(await network.listen(API_PORT), await network.listen(S3_PORT), wildcard, *others),
        listener() as host,
    ):
        for guest in (mine, other):
            for port in (API_PORT, S3_PORT):
                assert await connect(guest, SERVICE_ADDRESS, port) == f"port {port}"
        refused = [(SERVICE_ADDRESS, 8081), (SERVICE_ADDRESS, host), ("169.254.100.2", API_PORT)]
        refused += [(at, port) for at in (network.gateway, network.link_inside) for port in (8081, API_PORT)]
        refused += [(network.link_host, host), (network.link_host, API_PORT)]
        for where in refused:
            assert not (await connect(mine, *where)).startswith(("port", "host")), where
        # From outside the namespace it is nowhere.
        with pytest.raises(OSError), socket.create_connection((SERVICE_ADDRESS, API_PORT), timeout=1) as opened:
            opened.recv(10)
    assert network.tenant_at(address(mine)) == "tenant-a"
    assert network.tenant_at(address(other)) == "tenant-b"
    left = address(mine)
    await mine.sandbox.close()
    assert network.tenant_at(left) is None


def received(lab: Lab, name: str) -> int:
    """Return how many packets the guest has sent into its port."""
    inside = ("ip", "netns", "exec", f"alcove-{lab.tag}")
    link = json.loads(command(*inside, "ip", "-j", "-s", "link", "show", name))[0]
    return int(link["stats64"]["rx"]["packets"])


async def test_a_source_address_cannot_be_forged(lab: Lab, internet: Internet) -> None:
    """Whoever owns the guest's kernel sends what it likes: the agent, as root there, is made to."""
    guest = await lab.load()
    tap = guest.sandbox.resources.tap
    assert tap is not None
    personality = guest.sandbox.personality()
    number = int(address(guest).rpartition(".")[2])
    forged = address(guest).rpartition(".")[0] + f".{number - 1 if number > 100 else number + 1}"
    assert await connect(guest, internet.address, 8080) == f"hello {internet.host}"
    personality["network"]["address"] = f"{forged}/32"
    await guest.sandbox.agent.batch(personality)
    before = received(lab, tap.name)
    assert not (await connect(guest, internet.address, 8080)).startswith("hello")
    assert received(lab, tap.name) > before, "the guest sent nothing, so nothing was shown"
    personality["network"] |= {"address": f"{tap.address}/32", "mac": "02:a1:00:00:00:01"}
    await guest.sandbox.agent.batch(personality)
    assert not (await connect(guest, internet.address, 8080)).startswith("hello")
    personality["network"]["mac"] = tap.mac
    await guest.sandbox.agent.batch(personality)
    assert await connect(guest, internet.address, 8080) == f"hello {internet.host}"


@pytest.mark.parametrize("how", ["loaded", "snapshot"])
async def test_a_function_without_a_network_reaches_nothing(lab: Lab, internet: Internet, how: str) -> None:
    load = await lab.workload(network=False, version="11")
    if how == "loaded":
        guest = await lab.start()
        await guest.sandbox.load(load)
    else:
        await lab.tier.snapshot(load)
        try:
            guest = lab.guest(await lab.tier.start_snapshot(load))
        finally:
            await lab.tier.drop_snapshot(load)
    routes = await guest.do("result = open('/proc/net/route').read()")
    assert len(routes.splitlines()) == 1, routes
    for target in (internet.address, lab.network.gateway, SERVICE_ADDRESS):
        assert await connect(guest, target, 8080) in ("OSError", "TimeoutError")


async def test_a_port_that_is_cut_short_is_released(lab: Lab) -> None:
    for delay in (0.0, 0.002, 0.01):
        task = asyncio.create_task(lab.network.tap())
        await asyncio.sleep(delay)
        task.cancel()
        made = (await asyncio.gather(task, return_exceptions=True))[0]
        if not isinstance(made, BaseException):
            await lab.network.release(made)
    await until(lambda: not lab.network._used)
    await until(lambda: not leftovers(lab.state))


async def test_ports_of_a_killed_daemon_are_forgotten(lab: Lab) -> None:
    tap = await lab.network.tap()
    lab.network._used.discard(tap.address)
    await lab.network.recover(set())
    assert not leftovers(lab.state)
    await lab.network.release(tap)
    assert Path(f"/run/netns/alcove-{lab.tag}").exists()
