"""nftables rules: what sandboxes may reach.

Inside the instance's namespace: a port may send only from its own MAC and address (bridge family); forwarding is
dropped but for replies, for a tenant's bridge to itself, and for the way out, less link-local addresses; the
namespace itself answers only pings, and at ``SERVICE_ADDRESS`` what serves sandboxes there. On the host: nothing from
the instance reaches the host's own services or another instance; what goes out is translated.

The rules inside are replaced in one transaction that leaves the sets as they are (``flush table``, nft(8)): a daemon
that starts again cuts off none of the sandboxes that went on running meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable

_PORTS = "bridge alcove ports"
_BRIDGES = "inet alcove bridges"


SERVICE_ADDRESS = "169.254.100.1"
SERVICE_PORTS = (9600, 9601)


def inside_rules() -> str:
    return _INSIDE.replace("SERVICE_ADDRESS", SERVICE_ADDRESS).replace(
        "SERVICE_PORTS", ", ".join(map(str, SERVICE_PORTS))
    )


_INSIDE = """
table inet alcove {
  set bridges { type ifname . ifname; }
  chain forward { type filter hook forward priority filter; policy drop; }
  chain input { type filter hook input priority filter; policy drop; }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept; }
}
table bridge alcove {
  set ports { type ifname . ether_addr . ipv4_addr; }
  chain port {
  }
  chain prerouting { type filter hook prerouting priority filter; policy accept; }
}
flush table inet alcove
flush table bridge alcove
table inet alcove {
  chain forward {
    ct state established,related accept
    ct state invalid drop
    ip daddr { 169.254.0.0/16, 100.127.0.0/16, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255 } drop
    iifname . oifname @bridges accept
    iifname "b-*" oifname "up0" accept
  }
  chain input {
    ct state established,related accept
    iifname "b-*" icmp type echo-request accept
    iifname "b-*" ip daddr SERVICE_ADDRESS tcp dport { SERVICE_PORTS } accept
  }
  chain postrouting {
    oifname "up0" masquerade
  }
}
table bridge alcove {
  chain prerouting {
    iifname "t*" jump port
  }
  chain port {
    ether type ip iifname . ether saddr . ip saddr @ports accept
    ether type arp iifname . ether saddr . arp saddr ip @ports accept
    drop
  }
}
"""


def host_rules(tag: str, uplink: str, inside: str) -> str:
    return f"""
table inet alcove-{tag}
delete table inet alcove-{tag}
table inet alcove-{tag} {{
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{uplink}" ct state established,related accept
    iifname "{uplink}" drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{uplink}" oifname "alc*" drop
    iifname "{uplink}" ip daddr 169.254.0.0/16 drop
    oifname "{uplink}" ct state established,related accept
    oifname "{uplink}" drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {inside} oifname != "{uplink}" masquerade
  }}
}}
"""


def add_port(name: str, mac: str, address: str) -> str:
    return f"add element {_PORTS} {{ {name} . {mac} . {address} }}"


def remove_port(name: str, mac: str, address: str) -> str:
    return f"delete element {_PORTS} {{ {name} . {mac} . {address} }}"


def set_ports(ports: Iterable[tuple[str, str, str]]) -> str:
    """Return what makes these (name, MAC, address) the only ports that may send."""
    return "\n".join([f"flush set {_PORTS}", *(add_port(*port) for port in ports)])


def add_bridge(name: str) -> str:
    return f'add element {_BRIDGES} {{ "{name}" . "{name}" }}'


def no_host_rules(tag: str) -> str:
    """Return what removes ``host_rules``, whether they are there or not."""
    return f"table inet alcove-{tag}\ndelete table inet alcove-{tag}\n"
