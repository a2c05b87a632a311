"""Connections over one channel, between the node service and a pod's guest.

The frame's id is the connection's. REQUEST (a JSON object: ``port``, and ``addresses`` to try in turn) asks for one;
REPLY says that it is there, ERROR with words that it is not or is no more. DATA is bytes of either way, none of them
their end; EVENT is how many bytes of those that came were taken (``>I``): at most ``WINDOW`` are on their way untaken.

This module runs in the guest too: standard library only.
"""

from __future__ import annotations

import struct

from alcove.wire.frame import FrameError

CHANNEL = "alcove.streams"
WINDOW = 128 * 1024
CHUNK = 32 * 1024
# Connections of one pod at once; each may have ``WINDOW`` bytes waiting at either end.
MOST = 32

_COUNT = struct.Struct(">I")


def taken(count: int) -> bytes:
    return _COUNT.pack(count)


def parse_taken(payload: bytes) -> int:
    """Raises ``FrameError``."""
    if len(payload) != _COUNT.size:
        raise FrameError("a count has four bytes")
    return int(_COUNT.unpack(payload)[0])
