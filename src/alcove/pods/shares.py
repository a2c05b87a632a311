"""What of the host's files one pod may see: an account of folders by name, written down before each is shown."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from alcove.errors import CapacityError, InvalidRequest
from alcove.host.process import Process, ProcessIdentity
from alcove.host.trees import copy_tree, restrict
from alcove.pods import virtiofsd
from alcove.pods.model import HOST_PATHS, check_name

MOST_SHARES = 128
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class Share:
    """``recursive``: mounts below it are read-only too, where it is. ``follows``: what the host mounts below it later
    is seen.
    """

    source: str
    read_only: bool
    recursive: bool
    follows: bool

    @staticmethod
    def parse(request: dict[str, Any]) -> Share:
        """Return the share that a request asks for. Raises ``InvalidRequest``."""
        source = request.get("source")
        if not isinstance(source, str) or not source.startswith("/") or len(source) > _LONGEST_PATH or "\0" in source:
            raise InvalidRequest(f"source: {source!r} is no absolute path")
        read_only, recursive, follows = (
            bool(request.get(key, default))
            for key, default in (("read_only", True), ("recursive", True), ("follows", False))
        )
        return Share(source, read_only, recursive, follows)


@dataclass(slots=True)
class Shares:
    """The folders by name, and ``server``, the virtiofsd that shows them. ``parent`` waits for that one: our own child,
    where this daemon started it.
    """

    server: ProcessIdentity | None = None
    parent: Process | None = None
    folders: dict[str, Share] = field(default_factory=dict)
    # Of each that is shown: what was at its path then.
    shown: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, name: str, share: Share) -> None:
        """Note it down. Raises ``InvalidRequest`` where the name is another folder's, ``CapacityError``."""
        if self.server is None:
            raise InvalidRequest(
                "the pod may not see paths of the host",
                hint=f'an operator allows it with the annotation {HOST_PATHS}: "true" before the pod starts',
            )
        known = self.folders.setdefault(check_name(name, "share"), share)
        if known != share:
            raise InvalidRequest(f"the share {name} is of {known.source}, with other rights")
        if len(self.folders) > MOST_SHARES:
            del self.folders[name]
            raise CapacityError(f"a pod sees at most {MOST_SHARES} paths of the host", hint="share a folder above them")

    def show(self, name: str) -> None:
        """Show what is at the share's path now, unless it is shown already. Blocks. Raises ``InvalidRequest``,
        ``HostError``.
        """
        share = self.folders[name]
        tree = _open(share.source)
        try:
            status = os.fstat(tree)
            identity = (status.st_dev, status.st_ino)
            if self.shown.get(name) == identity:
                return
            folder = virtiofsd.is_folder(tree)
            if folder is None:
                raise InvalidRequest(
                    f"{share.source} is neither a file nor a folder: it cannot be shared with a machine"
                )
            restrict(tree, read_only=share.read_only, recursive=share.recursive, follows=share.follows)
            assert self.server is not None
            virtiofsd.insert(self.server, tree, name, folder=folder)
            self.shown[name] = identity
        finally:
            os.close(tree)

    async def reap(self) -> None:
        """Wait for the end of what was killed."""
        if self.parent is not None:
            await self.parent.wait()
            self.leave()

    def leave(self) -> None:
        """Let go of the server: it runs on."""
        if self.parent is not None:
            self.parent.release()
            self.parent = None

    def to_json(self) -> dict[str, Any]:
        return {
            "server": self.server.to_json() if self.server else None,
            "folders": {
                name: [one.source, one.read_only, one.recursive, one.follows] for name, one in self.folders.items()
            },
            "shown": self.shown,
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> Shares:
        server = document["server"]
        return Shares(
            ProcessIdentity.from_json(server) if server else None,
            folders={name: Share(*one) for name, one in document["folders"].items()},
            shown={name: (int(device), int(inode)) for name, (device, inode) in document["shown"].items()},
        )


def _open(path: str) -> int:
    try:
        return copy_tree(path)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be shared: {os.strerror(error.errno or 0)}") from error
