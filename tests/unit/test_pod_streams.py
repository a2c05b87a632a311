"""Output on credit, input in order, and what a process printed last."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from alcove.guest.streams import CHUNK, INPUT, WINDOW, Streams


class Loop:
    def __init__(self) -> None:
        self.watched: dict[int, tuple[int, Callable[[int], None]]] = {}

    def watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        self.watched[fd] = mask, handler

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def turn(self) -> bool:
        """Call whoever has something; return whether anybody had."""
        poll = select.poll()
        for fd, (mask, _) in self.watched.items():
            poll.register(fd, mask)
        ready = poll.poll(0)
        for fd, events in ready:
            if fd in self.watched:
                self.watched[fd][1](events)
        return bool(ready)


class Bench:
    def __init__(self) -> None:
        self.loop = Loop()
        self.sent: list[tuple[int, bytes]] = []
        self.taken = 0
        out, self.out = os.pipe()
        err, self.err = os.pipe()
        self.stdin, stdin = os.pipe()
        os.set_blocking(self.out, False)
        self.streams = Streams(
            self.loop, {out: 1, err: 2}, stdin, lambda stream, data: self.sent.append((stream, data)), self._take
        )

    def _take(self, count: int) -> None:
        self.taken += count

    def pour(self) -> int:
        """Write to stdout until nobody takes any more, or far too much was taken; return how much was sent."""
        while (sent := sum(len(data) for _, data in self.sent)) < 4 * WINDOW:
            try:
                os.write(self.out, b"x" * CHUNK)
            except BlockingIOError:
                if not self.loop.turn():
                    break
        return sent

    def close(self) -> None:
        self.streams.finish()
        for fd in (self.out, self.err, self.stdin):
            os.close(fd)


def test_output_stops_at_its_credit_and_goes_on_with_more() -> None:
    bench = Bench()
    sent = bench.pour()
    assert WINDOW <= sent < WINDOW + CHUNK
    assert bench.loop.watched == {}
    bench.streams.acknowledge(CHUNK * 2)
    assert sent < bench.pour() <= sent + 3 * CHUNK
    bench.close()


def test_a_full_channel_holds_up_every_process() -> None:
    bench = Bench()
    bench.streams.throttle(True)
    os.write(bench.err, b"waits")
    assert not bench.loop.turn()
    bench.streams.throttle(False)
    assert bench.loop.turn()
    assert bench.sent == [(2, b"waits")]
    bench.close()


def test_what_was_printed_last_is_sent_whatever_the_credit() -> None:
    bench = Bench()
    sent = bench.pour()
    os.write(bench.err, b"the end")
    bench.streams.finish()
    assert bench.sent[-1] == (2, b"the end")
    assert sum(len(data) for _, data in bench.sent) > sent + len(b"the end")
    assert bench.loop.watched == {}
    bench.close()


def test_input_waits_for_its_reader_and_then_ends() -> None:
    bench = Bench()
    data = os.urandom(300_000)
    bench.streams.feed(data)
    bench.streams.close_stdin()
    bench.streams.feed(b"too late")
    read = bytearray()
    while chunk := os.read(bench.stdin, 65536):
        read += chunk
        bench.loop.turn()
    assert bytes(read) == data
    assert bench.taken == len(data)
    bench.close()


def test_input_that_waits_is_bounded() -> None:
    bench = Bench()
    bench.streams.feed(b"y" * INPUT)
    bench.streams.feed(b"z" * 100_000)
    bench.streams.close_stdin()
    read = 0
    while chunk := os.read(bench.stdin, 1 << 20):
        assert b"z" not in chunk
        read += len(chunk)
        bench.loop.turn()
    assert read == INPUT
    bench.close()


def test_a_reader_that_is_gone_is_no_error() -> None:
    bench = Bench()
    os.close(bench.stdin)
    bench.streams.feed(b"for nobody")
    assert bench.taken == 0
    bench.stdin = os.dup(bench.err)
    bench.close()
