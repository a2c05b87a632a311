"""A program that is run in a container, or the container's own, with its streams: exec and attach."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from alcove.instances.cri import Cri
from alcove.instances.spdy import Streams, StreamsBroken

# Kubernetes' numbers of the channels.
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_NAMES = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", ERROR: "error", RESIZE: "resize"}
_STATUS_LIMIT = 64 << 10
# A terminal's sides.
_LARGEST = 10_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; no ``command``: the container's own program is attached to."""

    command: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False


class Session:
    """``begin``, ``output`` until its end, ``close``; meanwhile ``write``, ``end_input``, ``resize``.

    After ``output`` ends, ``exit_code`` is the program's.
    """

    def __init__(self, streams: Streams, numbers: dict[int, int]) -> None:
        self._streams = streams
        self._numbers = numbers
        self._status = b""

    @classmethod
    async def begin(cls, cri: Cri, container: str, wish: Wish) -> Session:
        """Raises ``AlcoveError``."""
        request: dict[str, Any] = {
            "container_id": container,
            "tty": wish.tty,
            "stdin": wish.stdin,
            "stdout": True,
            # A terminal has one way out.
            "stderr": not wish.tty,
        }
        if wish.command:
            answer = await cri.call("Exec", {**request, "cmd": list(wish.command)})
        else:
            answer = await cri.call("Attach", request)
        streams = await Streams.connect(answer["url"])
        numbers: dict[int, int] = {}
        try:
            for channel in _channels(wish):
                numbers[channel] = await streams.open({"streamType": _NAMES[channel]})
        except BaseException:
            await streams.close()
            raise
        return cls(streams, numbers)

    async def close(self) -> None:
        await self._streams.close()

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield what comes on STDOUT and STDERR."""
        channels = {number: channel for channel, number in self._numbers.items()}
        over = {STDOUT, STDERR, ERROR} & self._numbers.keys()
        async for number, data, ended in self._streams.frames():
            channel = channels.get(number)
            if channel == ERROR:
                self._status = (self._status + data)[:_STATUS_LIMIT]
            elif channel is not None and data:
                yield channel, data
            if ended and channel is not None:
                over.discard(channel)
                if not over:
                    return

    async def write(self, data: bytes) -> None:
        if STDIN in self._numbers:
            await self._streams.send(self._numbers[STDIN], data)

    async def end_input(self) -> None:
        if STDIN in self._numbers:
            await self._streams.end(self._numbers[STDIN])

    async def resize(self, width: int, height: int) -> None:
        if RESIZE in self._numbers and 0 < width <= _LARGEST and 0 < height <= _LARGEST:
            size = json.dumps({"Width": width, "Height": height})
            await self._streams.send(self._numbers[RESIZE], size.encode())

    @property
    def exit_code(self) -> int:
        """Raises ``StreamsBroken`` where the end is not known, with what the runtime said."""
        return exit_code(self._status)


def exit_code(status: bytes) -> int:
    """Return the exit code of a Kubernetes Status document. Raises ``StreamsBroken``."""
    try:
        document = json.loads(status)
        if document.get("status") == "Success":
            return 0
        causes = (document.get("details") or {}).get("causes") or []
        return next(int(one["message"]) for one in causes if one.get("reason") == "ExitCode")
    except (ValueError, KeyError, AttributeError, TypeError, StopIteration):
        raise StreamsBroken(_words(status)) from None


def _words(status: bytes) -> str:
    try:
        return str(json.loads(status)["message"])[:400]
    except (ValueError, KeyError, TypeError):
        words = status.decode(errors="replace")[:400] or "the runtime broke off"
        return f"how the program ended is not known: {words}"


def _channels(wish: Wish) -> list[int]:
    wanted = (
        (ERROR, True),
        (STDIN, wish.stdin),
        (STDOUT, True),
        (STDERR, not wish.tty),
        (RESIZE, wish.tty),
    )
    return [channel for channel, here in wanted if here]
