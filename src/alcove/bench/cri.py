"""The product's CRI client for the pods' benchmark, whose calls are made one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from alcove.instances import cri

TIMEOUT_S = 300.0


class Cri:
    """A client whose calls wait for their answer. Raises what ``alcove.instances.cri`` does: it ends a benchmark."""

    def __init__(self, socket: Path) -> None:
        self._runner = asyncio.Runner()
        self._cri = self._runner.run(_connect(socket))

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        return self._runner.run(self._cri.call(method, fields, TIMEOUT_S))

    def has_image(self, name: str) -> bool:
        return self._runner.run(self._cri.image(name)) is not None

    def close(self) -> None:
        self._cri.close()
        self._runner.close()


async def _connect(socket: Path) -> cri.Cri:
    return cri.Cri(socket)


def sandbox_config(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "namespace": "bench", "attempt": 0}, "hostname": "bench"}


def container_config(name: str, image: str, command: list[str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "attempt": 0}, "image": {"image": image}, "command": command}
