"""The runtime ``provided``: the tenant's own ``bootstrap`` behind the Lambda Runtime API.

This process stands between the invocation channel and an HTTP server on loopback, from which the bootstrap fetches
events and to which it posts answers ("Custom runtimes" in the AWS Lambda developer guide). Events and answers pass
through as bytes. Requests that are shared may be in hand together, as on Lambda's Managed Instances: the bootstrap
asks for as many events at once as ``AWS_LAMBDA_MAX_CONCURRENCY`` says.

One thread, one loop. The channel is not read while a request of the host's is in hand that no other may join: a
bootstrap that answers never waits for the host.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

from alcove.guest.runtimes.channel import Channel, ChannelClosed
from alcove.guest.runtimes.provided_api import RuntimeApi
from alcove.guest.runtimes.provided_bootstrap import Bootstrap
from alcove.guest.runtimes.provided_calls import Call, Calls
from alcove.guest.runtimes.provided_errors import failure
from alcove.guest.runtimes.provided_loop import Loop
from alcove.guest.runtimes.provided_rehearsal import RehearsalCall, walk
from alcove.guest.runtimes.provided_server import Server
from alcove.wire.frame import Frame, Kind

PORT = 9001
# None: it is answered later.
Answer = tuple[Kind, bytes] | None


class ProvidedRuntime:
    """What the host asks for."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._listening = self._called = False
        self._loop = Loop()
        self._bootstrap = Bootstrap(self._loop)
        self._calls = Calls()
        self._api = RuntimeApi(self._calls)
        self._server = Server(self._loop, PORT, self._api)
        self._api.respond = self._server.respond
        self._rehearsal = False
        self._answers: dict[Kind, Callable[[Frame], Answer]] = {
            Kind.LOAD: self._on_load,
            Kind.INVOKE: self._on_invoke,
            Kind.HOOK: self._on_hook,
            Kind.UNLOAD: self._on_unload,
            Kind.PING: lambda frame: (Kind.PONG, frame.payload),
        }

    def run(self) -> NoReturn:
        """Serve until the host is gone or the bootstrap has ended: its end is ours too."""
        self._channel.send(Kind.READY, 0, b'{"runtime": "provided", "protocol": 1}')
        try:
            while self._bootstrap.ended is None:
                self._turn()
        except ChannelClosed:
            self._bootstrap.stop()
            os._exit(0)
        self._end_calls()
        self._bootstrap.stop()
        os._exit(1)

    def _turn(self) -> None:
        self._listen(not self._calls.alone)
        self._loop.step()
        self._calls.deliver()
        if self._called:
            self._called = False
            frame = self._channel.receive()
            self._listen(False)
            answer = self._answers[frame.kind](frame)
            if answer is not None:
                self._channel.send(answer[0], frame.id, answer[1])

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._listening:
            self._loop.watch(self._channel.fd, self._on_host)
        elif self._listening and not wanted:
            self._loop.forget(self._channel.fd)
        self._listening = wanted

    def _on_host(self, events: int) -> None:
        self._called = True

    def _serve_until(self, condition: Callable[[], object]) -> None:
        """Serve the bootstrap until ``condition`` holds or it has ended."""
        while not condition() and self._bootstrap.ended is None:
            self._loop.step()

    def _end_calls(self) -> None:
        """Take what the bootstrap had sent before it ended; its children send no more. The rest has failed."""
        self._listen(False)
        self._bootstrap.kill()
        while self._calls and self._loop.step(0):
            self._calls.deliver()
        self._calls.deliver()
        for call in self._calls.take_all():
            call.answer(Kind.FAILURE, self._bootstrap.end_document(call.request_id))

    # What the host asks for

    def _on_load(self, frame: Frame) -> Answer:
        began = time.perf_counter()
        load = json.loads(frame.payload)
        self._rehearsal = load["rehearsal"]
        self._calls.limit = load.get("concurrency", 1)
        if self._rehearsal:
            self._rehearse(b"{}")
        elif (problem := self._start(load)) is not None:
            self._clear()
            return Kind.FAILURE, problem
        self._api.initialised = True
        return Kind.LOADED, b'{"init_ms": %.3f}' % ((time.perf_counter() - began) * 1000)

    def _start(self, load: dict[str, Any]) -> bytes | None:
        """Start the bootstrap and wait until it asks for an event; return the failure otherwise."""
        host, port = self._server.address
        problem = self._bootstrap.start(load, f"{host}:{port}")
        if problem is not None:
            return problem
        api = self._api
        self._serve_until(lambda: api.waiting_next or api.waiting_restore or api.failure)
        if api.failure is None and self._bootstrap.ended is not None:
            return self._bootstrap.end_document()
        return api.failure

    def _on_invoke(self, frame: Frame) -> Answer:
        split = 2 + int.from_bytes(frame.payload[:2], "big")
        call = Call(self._channel, frame.id, json.loads(frame.payload[2:split]), frame.payload[split:])
        if self._rehearsal:
            call.answer(Kind.RESULT, self._rehearse(call.event))
        elif not self._bootstrap.runs:
            call.answer(Kind.FAILURE, failure("Runtime.NotLoaded", "no bootstrap runs"))
        else:
            self._api.release_restored()
            self._calls.add(call)
            self._api.hand_out()
        return None

    def _on_hook(self, frame: Frame) -> Answer:
        """Let a bootstrap go on that waits for its restore, and wait until it is ready."""
        api = self._api
        if json.loads(frame.payload)["hook"] == "after_restore" and api.waiting_restore:
            api.release_restored()
            self._serve_until(lambda: api.waiting_next or api.failure)
            if api.failure is not None:
                problem, api.failure = api.failure, None
                return Kind.FAILURE, problem
        return Kind.DONE, b""

    def _on_unload(self, frame: Frame) -> Answer:
        self._clear()
        return Kind.DONE, b""

    def _clear(self) -> None:
        self._bootstrap.stop()
        self._calls.take_all()
        self._server.close_all()
        self._rehearsal = self._api.initialised = False
        self._api.failure = None
        os.chdir("/")

    def _rehearse(self, event: bytes) -> bytes:
        call = RehearsalCall(self._channel, event)
        self._calls.add(call)
        walk(self._loop, self._server.address)
        self._calls.deliver()
        return call.result


def main() -> NoReturn:
    """Run on the descriptor that the environment names, as in a VM, or on 0, as in a container."""
    named = os.environ.pop("ALCOVE_CHANNEL_FD", None)
    fd = os.dup(0) if named is None else int(named)
    os.set_inheritable(fd, False)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    ProvidedRuntime(Channel(fd)).run()
