"""The way to containerd: a private one, which is started at first use, or the one that the settings name."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from alcove.errors import AlcoveError, HostError, InvalidRequest
from alcove.host.files import instance_tag
from alcove.instances import firewall
from alcove.instances.containerd import Containerd, may_raise_priority
from alcove.instances.containerd_config import ContainerdSpec, kata_program
from alcove.instances.cri import Cri
from alcove.instances.registry import DOCKER_HUB, registry_of

# A start that failed is tried again no sooner: who asks meanwhile is told the same.
RETRY_S = 5.0


class Runtime:
    """``cri`` waits until containerd answers. ``close`` at the end."""

    def __init__(
        self,
        spec: ContainerdSpec,
        *,
        socket: Path | None = None,
        auth_file: Path | None = None,
        stall_s: float = 60.0,
    ) -> None:
        """``stall_s``: how long fetching an image may make no progress."""
        self.spec = spec
        self.stall_s = stall_s
        self._socket = socket
        self._auth_file = auth_file
        self._containerd: Containerd | None = None
        self._cri: Cri | None = None
        self._lock = asyncio.Lock()
        self._failed: tuple[float, AlcoveError] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a containerd of ours, which an earlier daemon has started."""
        return self._socket is not None or (self.spec.root / "process.json").exists()

    @property
    def has_kata(self) -> bool:
        """Whether there is Kata Containers; someone's own containerd says so itself when it is asked for a pod."""
        return self._socket is not None or kata_program() is not None

    async def cri(self) -> Cri:
        """Raises ``HostError`` where containerd cannot be started."""
        if self._cri is not None:
            return self._cri
        async with self._lock:
            if self._cri is None:
                self._cri = await self._open()
            return self._cri

    async def _open(self) -> Cri:
        now = asyncio.get_running_loop().time()
        if self._failed is not None and now - self._failed[0] < RETRY_S:
            raise HostError(str(self._failed[1]), hint=self._failed[1].hint)
        if self._socket is not None:
            return Cri(self._socket)
        containerd = Containerd(self.spec)
        try:
            await containerd.start()
        except AlcoveError as error:
            self._failed = (now, error)
            await containerd.close()
            raise
        self._containerd = containerd
        return Cri(containerd.socket)

    async def isolate(self) -> None:
        """Keep pods apart whose networks were just made. Of another's containerd the network is another's too."""
        if self._socket is None:
            await asyncio.to_thread(firewall.isolate, self.spec.bridge)

    async def close(self) -> None:
        if self._cri is not None:
            self._cri.close()
        if self._containerd is not None:
            await self._containerd.close()

    def auth(self, image: str) -> dict[str, Any] | None:
        """Return the credentials for the image's registry, of a file as docker and skopeo write it. Blocking."""
        if self._auth_file is None:
            return None
        try:
            document = json.loads(self._auth_file.read_text())
        except (OSError, ValueError) as error:
            raise HostError(f"the credentials cannot be read: {error}", hint="see --registry-auth") from None
        return credentials(document, registry_of(image))


def credentials(document: Any, registry: str) -> dict[str, Any] | None:
    """Return CRI's AuthConfig of a ``config.json``, or None where it names nothing for this registry."""
    auths = document.get("auths") if isinstance(document, Mapping) else None
    names = (registry, f"https://{registry}", *(("https://index.docker.io/v1/",) if registry == DOCKER_HUB else ()))
    entry = next((auths[name] for name in names if name in auths), None) if isinstance(auths, Mapping) else None
    if not isinstance(entry, Mapping):
        return None
    if isinstance(entry.get("auth"), str):
        try:
            user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return {"username": user, "password": password}
    known = {"username": "username", "password": "password", "identitytoken": "identity_token"}
    return {field: str(entry[name]) for name, field in known.items() if name in entry} or None


def private(state: Path, run: Path, *, subnet: IPv4Network, mirrors: Mapping[str, tuple[str, ...]]) -> ContainerdSpec:
    """Return the private containerd of the instance with this state folder."""
    return ContainerdSpec(
        root=state / "containerd",
        run=run,
        subnet=subnet,
        bridge=f"alc{instance_tag(state)}p",
        mirrors=mirrors,
        restrict_oom_score_adj=not may_raise_priority(),
    )


def read_mirrors(rows: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return mirrors by registry of rows ``REGISTRY=URL``; ``*`` stands for all. Raises ``InvalidRequest``."""
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        registry, equals, url = row.partition("=")
        name = "_default" if registry == "*" else registry
        named = name not in ("", ".", "..") and "/" not in name
        if not (equals and named and url.startswith(("http://", "https://"))):
            raise InvalidRequest(
                f"{row!r} is no mirror", hint="write REGISTRY=URL, such as docker.io=http://cache:5000"
            )
        found[name] = (*found.get(name, ()), url)
    return found
