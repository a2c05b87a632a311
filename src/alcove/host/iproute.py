"""The ip command: namespaces and pairs of devices, which are made once and need no speed. Blocking: for threads."""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
from pathlib import Path

from alcove.errors import HostError

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# There while it was an instance of ours that made the host forward.
_FORWARD_OURS = Path("/run/alcove-ip-forward")
_NAMESPACES = Path("/run/netns")
_DEVICES = Path("/sys/devices/virtual/net")
_IFF_UP = 1
_SETTINGS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 1,
    "net.ipv4.conf.default.rp_filter": 1,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv6.conf.all.disable_ipv6": 1,
    "net.ipv6.conf.default.disable_ipv6": 1,
}


def ip(*arguments: str) -> None:
    command("ip", *arguments)


def ip_batch(namespace: str, *lines: str) -> None:
    command("ip", "-n", namespace, "-batch", "-", input="\n".join(lines) + "\n")


def command(*argv: str, input: str | None = None) -> None:
    """Run a command. Raises ``HostError`` with its words where it fails."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False, input=input)
    if result.returncode:
        raise HostError(f"{' '.join(argv)}: {result.stderr.strip()}", hint="apt-get install iproute2 nftables procps")


def join_host(namespace: str, uplink: str, host: str, inside: str) -> None:
    """Make the instance's ``namespace`` and its link to the host, ``uplink``, with an address at each end.

    What is there already is kept.
    """
    if not (_NAMESPACES / namespace).exists():
        ip("netns", "add", namespace)
    if not Path(f"/sys/class/net/{uplink}").exists():
        ip("link", "add", uplink, "type", "veth", "peer", "name", "up0", "netns", namespace)
    ip("addr", "replace", f"{host}/30", "dev", uplink)
    ip("link", "set", uplink, "up")
    ip("-n", namespace, "addr", "replace", f"{inside}/30", "dev", "up0")
    for device in ("lo", "up0"):
        ip("-n", namespace, "link", "set", device, "up")
    ip("-n", namespace, "route", "replace", "default", "via", host)
    settings = [f"{key}={value}" for key, value in _SETTINGS.items()]
    command("ip", "netns", "exec", namespace, "sysctl", "-qw", *settings)


def forward() -> None:
    """Make the host forward packets, which the sandboxes' way out needs, and note whether it did so before."""
    if _FORWARD.read_text().strip() != "1":
        _FORWARD_OURS.touch()
        _FORWARD.write_text("1")


def stop_forwarding() -> None:
    """Undo ``forward``, unless others may need it: an instance, or a virtual device in use (Docker's, a VPN's)."""
    if not _FORWARD_OURS.exists():
        return
    others = any(_NAMESPACES.glob("alcove-*"))
    for device in _DEVICES.iterdir():
        up = int((device / "flags").read_text(), 16) & _IFF_UP
        others = others or (device.name != "lo" and bool(up))
    if not others:
        _FORWARD.write_text("0")
        _FORWARD_OURS.unlink()


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
    for path in _NAMESPACES.glob(f"{namespace}-t*"):
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
