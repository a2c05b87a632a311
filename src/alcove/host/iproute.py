"""The ip command: namespaces and pairs of devices, which are made once and need no speed. Blocking: for threads."""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
from pathlib import Path

from alcove.errors import HostError


def ip(*arguments: str) -> None:
    command("ip", *arguments)


def ip_batch(namespace: str, *lines: str) -> None:
    command("ip", "-n", namespace, "-batch", "-", input="\n".join(lines) + "\n")


def command(*argv: str, input: str | None = None) -> None:
    """Run a command. Raises ``HostError`` with its words where it fails."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False, input=input)
    if result.returncode:
        raise HostError(f"{' '.join(argv)}: {result.stderr.strip()}", hint="apt-get install iproute2 nftables procps")


def join_container(outer: str, namespace: str, name: str, *, mac: str, address: str, gateway: str, mtu: int) -> None:
    """Make a container's ``namespace``, whose ``eth0`` is the other end of the device ``name`` in ``outer``."""
    ip("netns", "add", namespace)
    ip(
        *("-n", outer, "link", "add", name, "mtu", str(mtu), "type", "veth"),
        *("peer", "name", "eth0", "netns", namespace, "address", mac, "mtu", str(mtu)),
    )
    ip_batch(
        namespace,
        "link set lo up",
        "link set eth0 addrgenmode none",
        f"addr add {address}/32 dev eth0",
        "link set eth0 up",
        f"route add {gateway}/32 dev eth0 scope link",
        f"route add default via {gateway} dev eth0",
    )


def remove_namespaces(namespace: str, kept: set[str]) -> None:
    """Remove the namespaces of containers whose ports are not ``kept``."""
    for path in Path("/run/netns").glob(f"{namespace}-t*"):
        if path.name.removeprefix(f"{namespace}-") not in kept:
            ip("netns", "del", path.name)


def upstream_resolvers() -> tuple[str, ...]:
    """Return the host's real resolvers: none on loopback, where a guest could not reach them."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if not path.exists():
            continue
        found = []
        for line in path.read_text().splitlines():
            fields = line.split()
            if len(fields) >= 2 and fields[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    server = ipaddress.ip_address(fields[1].partition("%")[0])
                    if server.version == 4 and not server.is_loopback:
                        found.append(str(server))
        if found:
            return tuple(found[:3])
    return ()
