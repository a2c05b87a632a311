"""A scanner as it is run in the jail."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from alcove.policy.findings import Finding
from alcove.policy.scan_jail import Ended


@dataclass(frozen=True, slots=True)
class Tool:
    """A scanner as it is run. ``files`` are the names that it reads, ``needs`` folders that it must see; ``read``
    understands how it ended, and raises ``ScanFailed`` for what is no result.
    """

    name: str
    files: Sequence[str]
    command: Sequence[str]
    needs: Sequence[Path]
    read: Callable[[Ended], list[Finding]]

    def reads(self, tree: Path) -> bool:
        """Whether there is anything for it in the tree; names are compared without regard to case."""
        names = (name.lower() for _, _, found in os.walk(tree) for name in found)
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.files)
