"""Where a pod has its files on this host: logs and volumes, below a folder that its uid names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Names of containers and volumes are labels (``manifest.NAME``): they can lead nowhere else."""

    root: Path
    uid: str

    @property
    def folder(self) -> Path:
        return self.root / self.uid

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def log(self, container: str, attempt: int) -> Path:
        return self.logs / relative_log(container, attempt)

    def empty_dir(self, volume: str) -> Path:
        return self.folder / "volumes" / "kubernetes.io~empty-dir" / volume

    def nfs(self, volume: str) -> Path:
        """An empty folder, which stands for the volume: its path is what the runtime is told of."""
        return self.folder / "volumes" / "kubernetes.io~nfs" / volume

    def files(self, volume: str) -> Path:
        return self.folder / "volumes" / "kubernetes.io~configmap" / volume


def relative_log(container: str, attempt: int) -> str:
    return f"{container}/{attempt}.log"


def digest(path: Path) -> str:
    """Return the 16 hex digits by which an annotation names a path of the host to the shim."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]
