"""What an NFS volume is: a server, a path and options, each of a known form, whoever asks.

The kernel takes the options as one text, and the server's address is one of them: nothing that is not known here may be
in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from alcove.guest import kernel
from alcove.guest.refused import Refused

_VERSIONS = ("vers=4.2", "vers=4.1", "vers=4.0", "vers=3")
# None of those that say where to, that need a daemon, or that are ours to say.
_OPTION = re.compile(
    r"hard|soft|softerr|ac|noac|cto|nocto|nolock|rdirplus|nordirplus|resvport|noresvport|sharecache|nosharecache"
    r"|(?:timeo|retrans|[rw]size|(?:mount)?port|ac(?:reg|dir)(?:min|max)|actimeo|nconnect)=[0-9]{1,9}"
    r"|(?:nfs)?vers=(?:3|4(?:\.[0-2])?)"
)
_MOST_OPTIONS = 32
_LONGEST_PATH = 1024
_LONGEST_RESOLVER = 4096
_HOST_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9.]{0,252}")


class Volume(NamedTuple):
    """``server`` is a name or an address, ``attempts`` the options of each; ``resolver`` is what finds the name."""

    server: str
    path: str
    flags: int
    attempts: list[str]
    resolver: str

    def __str__(self) -> str:
        return f"{f'[{self.server}]' if ':' in self.server else self.server}:{self.path}"


def volume_in(request: dict[str, Any]) -> Volume:
    """Return what a request asks for. Raises ``Refused``."""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | (kernel.MS_RDONLY if request.get("read_only") else 0)
    resolver = str(request.get("resolver") or "")[:_LONGEST_RESOLVER]
    return Volume(_server(request), _path(request), flags, options(request.get("options") or []), resolver)


def options(asked: Sequence[object]) -> list[str]:
    """Return the options of each attempt. Raises ``Refused``."""
    if not isinstance(asked, list) or len(asked) > _MOST_OPTIONS:
        raise Refused("invalid", f"options: a list of at most {_MOST_OPTIONS} is wanted")
    for option in asked:
        if not isinstance(option, str) or not _OPTION.fullmatch(option):
            raise Refused("invalid", f"the NFS option {option!r:.80} is not accepted")
    versions = [option for option in asked if "vers=" in option]
    others = [option for option in asked if "vers=" not in option]
    attempts = [one.replace("nfsvers=", "vers=") for one in versions[:1]] or _VERSIONS
    # Locks of version 3 would take a daemon here.
    return [",".join((one, *others, *(("nolock",) if one == "vers=3" else ()))) for one in attempts]


def _server(request: dict[str, Any]) -> str:
    server = str(request["server"])
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        if not _HOST_NAME.fullmatch(server):
            raise Refused("invalid", f"server: {server!r:.80} is neither a name nor an address") from None
        return server
    if getattr(address, "scope_id", None) is not None:
        raise Refused("invalid", "server: an address with an interface is nobody's here")
    return str(address)


def _path(request: dict[str, Any]) -> str:
    path = str(request["path"])
    if not path.startswith("/") or len(path) > _LONGEST_PATH or "\0" in path:
        raise Refused("invalid", f"path: {path!r:.80} is no absolute path")
    return path
