"""What is on disk about each sandbox, written before it is acted on.

A sandbox's folder holds its sockets and ``record.json``. A daemon that starts finds in the records which processes it
may adopt and whose leftovers it must reap.
"""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

from alcove.host.files import private_folder, write_json
from alcove.host.resources import start_failure
from alcove.sandbox.protocol import SandboxId


def new_id() -> SandboxId:
    return SandboxId("s-" + secrets.token_hex(6))


class RecordStore:
    """The folder of sandbox records. Only the instance's one daemon uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)

    def create(self, id: SandboxId, facts: dict[str, Any]) -> Path:
        """Make the sandbox's folder with its first record; return the folder. Raises ``CapacityError`` where there is
        no room for it; nothing is left then.
        """
        folder = self.folder / id
        try:
            folder.mkdir(mode=0o700)
            self.write(id, facts)
        except OSError as error:
            self.remove(id)
            raise start_failure(error, "sandbox") from error
        return folder

    def write(self, id: SandboxId, facts: dict[str, Any]) -> None:
        # What it tells of does not outlive the host's failure either.
        write_json(self.folder / id / "record.json", {"id": id, **facts}, durable=False)

    def remove(self, id: SandboxId) -> None:
        shutil.rmtree(self.folder / id, ignore_errors=True)

    def all(self) -> dict[SandboxId, dict[str, Any]]:
        """Return every record; an unreadable one as an empty object."""
        found: dict[SandboxId, dict[str, Any]] = {}
        for folder in sorted(self.folder.iterdir()):
            try:
                document = json.loads((folder / "record.json").read_text())
            except (OSError, ValueError):
                document = {}
            found[SandboxId(folder.name)] = document if isinstance(document, dict) else {}
        return found
