"""containerd's own events: who ended, told at once. CRI 1.6 has none, so they are read beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable

from alcove.errors import AlcoveError
from alcove.instances.runtime import Runtime
from alcove.wire.protobuf import BYTES, STRING, Field, Message, ProtobufError

log = logging.getLogger(__name__)

_ANY = Message("google.protobuf.Any", Field(1, "type_url", STRING), Field(2, "value", BYTES))
_SUBSCRIBE = Message("SubscribeRequest", Field(1, "filters", STRING, repeated=True))
_ENVELOPE = Message("Envelope", Field(3, "topic", STRING), Field(4, "event", _ANY))
# Both TaskExit and TaskOOM begin so; an exec's exit has another id.
_TASK = Message("TaskExit", Field(1, "container_id", STRING), Field(2, "id", STRING))
_METHOD = "/containerd.services.events.v1.Events/Subscribe"
_FILTERS = ['topic=="/tasks/exit"', 'topic=="/tasks/oom"']
# CRI hears of an event when we do: it knows a moment later.
_LATER_S = (0.0, 0.05, 0.3, 1.0)
_RETRY_S = 1.0


class Listener:
    """Calls ``ended`` with a container's id, several times, from when it has ended; "" is any. ``start``, ``close``."""

    def __init__(self, runtime: Runtime, ended: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._ended = ended
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._listen())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                async for container in self._events():
                    self._tell(container)
            except (AlcoveError, ProtobufError) as error:
                log.debug("containerd's events: %s", error)
            # Whoever waits looks now and then by itself too.
            await asyncio.sleep(_RETRY_S)

    async def _events(self) -> AsyncGenerator[str, None]:
        cri = await self._runtime.cri()
        told = cri.follow(_METHOD, {"filters": _FILTERS}, (_SUBSCRIBE, _ENVELOPE))
        # Whoever ended before this, while nobody listened, is looked for.
        self._tell("")
        async with contextlib.aclosing(told):
            async for envelope in told:
                if (event := envelope["event"]) is not None:
                    task = _TASK.decode(event["value"])
                    if task["id"] in ("", task["container_id"]):
                        yield task["container_id"]

    def _tell(self, container: str) -> None:
        loop = asyncio.get_running_loop()
        for later_s in _LATER_S:
            loop.call_later(later_s, self._ended, container)
