"""The audit: one line for each change, in a file for each tenant, so that nobody writes away another's lines.

A change is noted as begun, on the disk, before it is made; its line is written when it has ended. What a crash leaves
without a line gets one at the next start, with the outcome ``unknown``. Files only grow; a full one is renamed, and
beyond ``FILES_KEPT`` the oldest goes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from alcove.audit.intents import IntentFile, Intents, left_intents
from alcove.audit.line import AuditLine, decode_line, encode_line
from alcove.errors import CapacityError
from alcove.host.files import private_folder

log = logging.getLogger(__name__)

FILE_BYTES = 4 << 20
FILES_KEPT = 4
RING_LINES = 2000
OPERATOR = "operator"
# Of each file, at a start: enough for the lines that the ring would hold.
_TAIL_BYTES = 256 << 10
# More than a file of intents holds.
_INTENTS_OF_A_FILE = 20_000
_SCOPE = re.compile(r"[a-z0-9]{1,32}")


class AuditLog:
    """``AuditLog(folder)`` to ``close()``; ``on_line`` is told the outcome of each change."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        self._recent: deque[AuditLine] = deque(maxlen=RING_LINES)
        self.on_line: Callable[[AuditLine], None] = lambda line: None
        self._next = 1
        self._read_back()
        self._settle()
        self._intents = Intents(self._folder)

    # Writing

    async def begin(self, line: AuditLine, *, insist: bool = True) -> IntentFile | None:
        """Note a change that is about to be made. Raises ``CapacityError`` where that cannot be written; without
        ``insist`` the change may go on all the same, since it may be what makes room.
        """
        file: IntentFile | None = None
        try:
            file = self._intents.file()
            file.open_lines += 1
            await asyncio.to_thread(file.append, line)
            return file
        except OSError as error:
            if file is not None:
                self._intents.ended(file)
            if insist:
                raise CapacityError(
                    "no room to write the audit", hint="free disk space on the file system of --state"
                ) from error
            log.warning("a change is not noted before it is made: %s", error)
            return None
        except BaseException:
            if file is not None:
                self._intents.ended(file)
            raise

    def end(self, line: AuditLine, begun: IntentFile | None) -> None:
        """Write the line of a change that has ended."""
        line = self._add(line)
        if begun is not None:
            self._intents.ended(begun)
        self.on_line(line)

    def _add(self, line: AuditLine) -> AuditLine:
        line = replace(line, number=self._next)
        self._next += 1
        self._recent.append(line)
        try:
            self._append(self._path(line.scope), encode_line(line))
        except OSError as error:
            log.warning("the audit cannot be written: %s: %s", error, encode_line(line).decode())
        return line

    def _append(self, path: Path, data: bytes) -> None:
        if path.exists() and path.stat().st_size + len(data) > FILE_BYTES:
            for number in range(FILES_KEPT - 1, 0, -1):
                older = _older(path, number)
                if older.exists():
                    older.replace(_older(path, number + 1))
            path.replace(_older(path, 1))
            _older(path, FILES_KEPT).unlink(missing_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def close(self) -> None:
        self._intents.close()

    # Reading

    def recent(self, scope: str = "", *, after: int = 0, tail: int = RING_LINES) -> list[AuditLine]:
        """Return lines numbered above ``after``, at most the last ``tail``; an empty scope stands for all."""
        found = [line for line in self._recent if line.number > after and scope in ("", line.scope)]
        return found[-tail:]

    async def of(self, scope: str, tail: int) -> list[AuditLine]:
        """Return the last lines of one scope, from its files."""
        path = self._path(scope)
        return await asyncio.to_thread(_read_last, path, tail)

    @property
    def newest(self) -> int:
        return self._next - 1

    # At a start

    def _read_back(self) -> None:
        found: list[AuditLine] = []
        for path in (*self._folder.glob("*.jsonl"), *self._folder.glob("*.jsonl.1")):
            found += _read_end(path)
            found = sorted(found, key=lambda line: line.number)[-RING_LINES:]
        self._recent.extend(found)
        if found:
            self._next = found[-1].number + 1

    def _settle(self) -> None:
        """Give what has begun and not ended its line."""
        for path, begun in left_intents(self._folder):
            scopes = {line.scope for line in begun if _SCOPE.fullmatch(line.scope)}
            # Where one change took long, many others of its file have ended since.
            ended = {line.request_id for scope in scopes for line in _read_last(self._path(scope), _INTENTS_OF_A_FILE)}
            for line in begun:
                if line.request_id not in ended and line.scope in scopes:
                    self._add(line)
            path.unlink()

    def _path(self, scope: str) -> Path:
        assert _SCOPE.fullmatch(scope), scope
        return self._folder / f"{scope}.jsonl"


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _read_end(path: Path) -> list[AuditLine]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        return [line for line in map(decode_line, file.read().splitlines()) if line is not None]


def _read_last(path: Path, tail: int) -> list[AuditLine]:
    found: list[AuditLine] = []
    for file in (path, *(_older(path, number) for number in range(1, FILES_KEPT))):
        if len(found) >= tail or not file.exists():
            break
        lines = (decode_line(raw) for raw in file.read_bytes().splitlines())
        found = [line for line in lines if line is not None] + found
    return found[-tail:]
