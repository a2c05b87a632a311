"""A node service over the engine of real machines, and pods as a shim sees them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.machine.lab import Lab, command, leftovers

from alcove.pods.model import Defaults
from alcove.pods.service import PodService
from alcove.sandbox.agent import AgentClient


@dataclass
class PodGuest:
    """The agent of a pod's machine, its client as a shim is."""

    agent: AgentClient

    async def run(self, *argv: str) -> tuple[int, str]:
        """Run a program as the agent does; return its exit code and what it printed."""
        printed: dict[int, bytearray] = {}
        self.agent.on_log = lambda process, stream, data: printed.setdefault(process, bytearray()).extend(data)
        (reply,) = await self.agent.batch({"op": "run", "argv": list(argv)})
        report = await self.agent.request("wait", process=reply["process"], timeout_s=60)
        return int(report.get("code") or 0), bytes(printed.get(reply["process"], b"")).decode()


class PodLab:
    """``ask`` is what arrives at the socket."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.service = self._service(0)

    def _service(self, waiting: int) -> PodService:
        return PodService(self.lab.tier.launcher, self.lab.state, Defaults(disk_mib=1024), waiting=waiting)

    async def restart(self, waiting: int = 0) -> None:
        """As a daemon that stops and one that starts."""
        await self.service.close()
        self.service = self._service(waiting)
        await self.service.recover()

    async def ask(self, op: str, **fields: Any) -> Any:
        return await self.service.carry_out({"op": op, **fields})

    @contextlib.asynccontextmanager
    async def guest(self, started: dict[str, Any]) -> AsyncIterator[PodGuest]:
        agent = await AgentClient.connect(Path(started["agent"]))
        try:
            await agent.hello(30)
            yield PodGuest(agent)
        finally:
            agent.close()

    async def end_all(self) -> None:
        for pod in (await self.ask("pods"))["pods"]:
            await self.ask("stop_pod", pod=pod["pod"], namespace=pod["namespace"])

    async def close(self) -> None:
        await self.end_all()
        await self.service.close()

    def leftovers(self) -> list[str]:
        found = leftovers(self.lab.state, "p-")
        found += [f"pod {path}" for path in (self.lab.state / "pods").iterdir()]
        return found


HOST, POD = "10.77.0.1", "10.77.0.2"
# A second interface's, and IPv6.
OTHER_HOST, OTHER_POD = "10.78.0.1", "10.78.0.2"
HOST_6, POD_6 = "fd77::1", "fd77::2"


class PodNetwork:
    """A namespace with what a CNI plugin makes: ``eth0``, the other end of a pair whose first the host has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"

    def ip(self, *arguments: str) -> list[dict[str, Any]]:
        text = command("ip", "-n", self.name, "-j", *arguments)
        return list(json.loads(text or "[]"))

    def describe(self) -> dict[str, Any]:
        """Return all that taking over changes."""
        links = {link["ifname"]: link for link in self.ip("addr")}
        card = links["eth0"]
        queues = json.loads(command("tc", "-n", self.name, "-j", "qdisc"))
        return {
            "links": sorted(links),
            "mac": card["address"],
            "addresses": sorted(one["local"] for one in card["addr_info"] if one["scope"] == "global"),
            "routes": sorted(route["dst"] for family in ("-4", "-6") for route in self.ip(family, "route")),
            "queues": [queue["kind"] for queue in queues if queue["kind"] == "ingress"],
        }


@contextlib.contextmanager
def pod_network(name: str = "alcove-test-pod") -> Iterator[PodNetwork]:
    command("ip", "netns", "add", name)
    try:
        command("ip", "link", "add", "alcpodtest", "type", "veth", "peer", "name", "eth0", "netns", name)
        command("ip", "addr", "add", f"{HOST}/24", "dev", "alcpodtest")
        command("ip", "link", "set", "alcpodtest", "up")
        for line in (
            "link set lo up",
            f"addr add {POD}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {HOST}",
        ):
            command("ip", "-n", name, *line.split())
        yield PodNetwork(name)
    finally:
        command("ip", "netns", "del", name)
        for link in ("alcpodtest", "alcpodtest2"):
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)


def add_more(network: PodNetwork) -> None:
    """Give the pod IPv6 and a second interface."""
    command("ip", "-6", "addr", "add", f"{HOST_6}/64", "dev", "alcpodtest", "nodad")
    ends = ("alcpodtest2", "type", "veth", "peer", "name", "net1", "netns", network.name)
    command("ip", "link", "add", *ends)
    command("ip", "addr", "add", f"{OTHER_HOST}/24", "dev", "alcpodtest2")
    command("ip", "link", "set", "alcpodtest2", "up")
    for line in (
        f"-6 addr add {POD_6}/64 dev eth0 nodad",
        f"-6 route add default via {HOST_6}",
        f"addr add {OTHER_POD}/24 dev net1",
        "link set net1 up",
    ):
        command("ip", "-n", network.name, *line.split())


_ECHO, _ECHO_REPLY = 8, 0
_ECHO_6, _ECHO_REPLY_6 = 128, 129


def pings(address: str, tries: int = 25) -> bool:
    """Whether the address answers an ICMP echo (RFC 792)."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(0.4)
        for number in range(tries):
            head = struct.pack("!BBHHH", _ECHO, 0, 0, os.getpid() & 0xFFFF, number)
            check = 0xFFFF - sum(struct.unpack("!4H", head)) % 0xFFFF
            raw.sendto(head[:2] + struct.pack("!H", check) + head[4:], (address, 0))
            with contextlib.suppress(TimeoutError):
                while True:
                    packet, (source, _) = raw.recvfrom(2048)
                    if source == address and packet[20] == _ECHO_REPLY:
                        return True
    return False


def pings_6(address: str, tries: int = 25) -> bool:
    """Whether the address answers an ICMPv6 echo (RFC 4443); the kernel fills in the checksum."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.settimeout(0.4)
        for number in range(tries):
            raw.sendto(struct.pack("!BBHHH", _ECHO_6, 0, 0, os.getpid() & 0xFFFF, number), (address, 0))
            with contextlib.suppress(TimeoutError):
                while True:
                    packet, (source, *_) = raw.recvfrom(2048)
                    if source == address and packet[0] == _ECHO_REPLY_6:
                        return True
    return False
