"""The pods' bridge, and nftables rules for it on the host: what pods may reach.

They get out, and are reached by the ports that the operator published; the host's own services, link-local addresses
and other pods they do not reach, by no path: not over the bridge, not around by the gateway. Replies pass.
Outside they have the host's address, by one rule for all: one for each pod, as the CNI plugin would make it, stays
where the plugin is killed halfway.
"""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Network
from pathlib import Path

from alcove.host.nftables import Nftables

_RULES = """
table inet NAME {
  chain input { type filter hook input priority filter - 10; policy accept; }
  chain forward { type filter hook forward priority filter - 10; policy accept; }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept; }
}
flush table inet NAME
table inet NAME {
  chain input {
    iifname "BRIDGE" ct state established,related accept
    iifname "BRIDGE" icmp type echo-request accept
    iifname "BRIDGE" drop
  }
  chain forward {
    iifname "BRIDGE" ct state established,related accept
    iifname "BRIDGE" ip saddr != SUBNET drop
    iifname "BRIDGE" meta nfproto ipv6 drop
    iifname "BRIDGE" oifname "BRIDGE" drop
    iifname "BRIDGE" ip daddr { 169.254.0.0/16, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255 } drop
  }
  chain postrouting {
    ip saddr SUBNET ip daddr != SUBNET oifname != "BRIDGE" masquerade
  }
}
"""


def rules(bridge: str, subnet: IPv4Network) -> str:
    """Return the rules; loaded again they replace themselves in one transaction. The bridge's name is the table's."""
    return _RULES.replace("NAME", bridge).replace("BRIDGE", bridge).replace("SUBNET", str(subnet))


def load(bridge: str, subnet: IPv4Network) -> None:
    """Blocking. Raises ``HostError``."""
    with Nftables() as nft:
        nft.load(rules(bridge, subnet))


def remove(bridge: str) -> None:
    """Blocking; nothing where there are none."""
    with Nftables() as nft:
        nft.load(f"delete table inet {bridge}", tolerant=True)


def isolate(bridge: str) -> None:
    """Have the bridge hand on nothing from one port to another: asked before anything is started behind a new port.

    Kernels without nft_meta_bridge cannot say that in a rule. Blocking.
    """
    for port in Path(f"/sys/class/net/{bridge}/brif").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # a pod that ends just now
            (port / "isolated").write_text("1")
