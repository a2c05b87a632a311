"""A pod's forwarded ports: what dials its namespace's loopback is connected to the guest's.

The listener lives in the namespace (``pods.loopback``); bytes go over a channel of the machine's own, which no shim
uses, so that neither a shim nor a container is in their way. All of it is the daemon's: where that is away, dialling is
refused, and the next one begins anew. Connections are bounded in number and in what waits; dialling in time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alcove.errors import AlcoveError
from alcove.host.threads import to_the_end
from alcove.pods import loopback
from alcove.pods.stream import Reader, Refused, Stream, Writer, reset
from alcove.wire.frame import Decoder, FrameError, Kind, encode
from alcove.wire.streams import MOST

log = logging.getLogger(__name__)

DIAL_S = 10.0
_READ = 65_536
_IDS = 1 << 32


class Forwards:
    """Of one pod, from ``start`` to ``close``. ``namespace`` is the path of its network, if it has one, where it has
    ``addresses`` (``10.1.2.3/24``); ``socket`` is that of the machine's channel.
    """

    def __init__(self, pod: str, namespace: str | None, addresses: Iterable[str], socket: Path) -> None:
        self._pod = pod
        self._namespace = namespace
        self._addresses = ["127.0.0.1", "::1", *(one.partition("/")[0] for one in addresses)]
        self._socket = socket
        self._opening: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._closing = False
        self._streams: dict[int, Stream] = {}
        # What an earlier channel's end left on its way is nobody's.
        self._number = secrets.randbelow(_IDS)
        # How often anything came.
        self._heard = 0
        self._channel: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    def start(self) -> None:
        """Begin to listen; nobody need wait for it."""
        if self._namespace is not None:
            self._opening = asyncio.create_task(self._open(self._namespace))

    async def _open(self, namespace: str) -> None:
        try:
            listener = await to_the_end(loopback.listen, namespace)
        except (AlcoveError, OSError) as error:
            log.warning("the ports of pod %s cannot be forwarded: %s", self._pod, error)
            return
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        self._closing = True
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._server is not None:
            self._server.close()
        for task in [*self._serving, *([self._reading] if self._reading else [])]:
            task.cancel()
            await asyncio.wait([task])
        self._drop_channel()

    # Connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        whole = False
        try:
            loopback.keep_alive(connection)
            await self.carry(loopback.meant_port(connection), reader, writer)
            whole = True
        except (Refused, OSError) as error:
            log.info("a connection to pod %s has ended: %s", self._pod, error)
        except asyncio.CancelledError:
            # The loop's own wrapper of this would log that.
            pass
        finally:
            if whole:
                writer.close()
            else:
                reset(writer)

    async def carry(self, port: int, reader: Reader, writer: Writer) -> None:
        """Connect to a port in the guest, and carry both ways to their ends. Raises ``Refused``, ``OSError``."""
        task = asyncio.current_task()
        assert task is not None
        # One may have been accepted that is served only now.
        if self._closing:
            raise Refused("the pod is at its end")
        if len(self._serving) >= MOST:
            raise Refused(f"{MOST} connections are open")
        self._serving.add(task)
        try:
            await self._carry(port, reader, writer)
        finally:
            self._serving.discard(task)

    async def _carry(self, port: int, reader: Reader, writer: Writer) -> None:
        request = {"port": port, "addresses": self._addresses}
        id = self._number = (self._number + 1) % _IDS
        stream = self._streams[id] = Stream(reader, writer, lambda kind, data: self._send(id, kind, data))
        ended = False
        try:
            await self._dial(stream, id, request)
            await stream.run()
            ended = True
        finally:
            del self._streams[id]
            if not ended:
                self._tell_end(id)

    async def _dial(self, stream: Stream, id: int, request: dict[str, Any]) -> None:
        heard = self._heard
        try:
            async with asyncio.timeout(DIAL_S):
                await self._connect()
                await self._send(id, Kind.REQUEST, json.dumps(request).encode())
                await stream.connected()
        except TimeoutError:
            # Nothing at all has come: whatever is wrong with the channel, the next one begins anew.
            if heard == self._heard:
                self._drop_channel()
            raise Refused(f"port {request['port']} does not answer") from None

    def _tell_end(self, id: int) -> None:
        if self._channel is not None:
            self._channel.write(encode(Kind.ERROR, id))

    # The channel

    async def _connect(self) -> None:
        async with self._connecting:
            if self._channel is None:
                reader, self._channel = await asyncio.open_unix_connection(str(self._socket))
                self._reading = asyncio.create_task(self._read(reader, self._channel))

    async def _send(self, id: int, kind: Kind, payload: bytes) -> None:
        if self._channel is None:
            raise Refused("the machine's channel has ended")
        self._channel.write(encode(kind, id, payload))
        await self._channel.drain()

    async def _read(self, reader: asyncio.StreamReader, channel: asyncio.StreamWriter) -> None:
        decoder = Decoder()
        try:
            while data := await reader.read(_READ):
                self._heard += 1
                for frame in decoder.feed(data):
                    stream = self._streams.get(frame.id)
                    if stream is not None:
                        stream.receive(frame)
        except (FrameError, OSError) as error:
            log.warning("the channel of pod %s for its ports has ended: %s", self._pod, error)
        finally:
            if channel is self._channel:
                self._drop_channel()

    def _drop_channel(self) -> None:
        """All that went over it is over; the next connection begins another."""
        if self._channel is not None:
            self._channel.transport.abort()
            self._channel = None
        for stream in list(self._streams.values()):
            stream.fail("the machine's channel has ended")
