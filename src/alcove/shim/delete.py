"""``delete``: containerd has lost the shim or gives it up. Works with nobody there; prints a DeleteResponse."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from alcove.shim import address
from alcove.shim.arguments import Arguments
from alcove.shim.connection import Connection
from alcove.shim.loop import Future, Loop
from alcove.shim.node import Node, NodeError
from alcove.shim.process import KILLED, timestamp
from alcove.shim.start import pod_of
from alcove.wire import task_messages, ttrpc

# containerd gives us five seconds in all.
_CALL_S = 1.0
_STOP_S = 3.0


def delete(arguments: Arguments) -> bytes:
    """Remove what is left of a container, and of its pod where it is the pod's own; return the response's bytes."""
    bundle = arguments.bundle or os.getcwd()
    try:
        pod = pod_of(bundle, arguments.id)
    except (OSError, ValueError):
        # Without its configuration it counts as a pod of its own: for a member of another that is no pod at all.
        pod = arguments.id
    loop = Loop()
    path = address.socket_path(arguments.namespace, pod, arguments.sockets)
    loop.run_until(_delete(loop, arguments, pod, path))
    return task_messages.DELETE_RESPONSE.encode({"exit_status": KILLED, "exited_at": timestamp(time.time_ns())})


async def _delete(loop: Loop, arguments: Arguments, pod: str, path: str) -> None:
    container = {"id": arguments.id}
    for method, fields in (("Kill", {"signal": 9, "all": True}), ("Delete", {}), ("Shutdown", {})):
        with contextlib.suppress(OSError, TimeoutError, ttrpc.Failure):
            await _call(loop, path, method, {**container, **fields})
    if pod == arguments.id:
        # Where it cannot be asked, it will find that the pod's shim is gone.
        with contextlib.suppress(NodeError, TimeoutError):
            node = Node(loop, arguments.node, namespace=arguments.namespace)
            await node.request("stop_pod", timeout_s=_STOP_S, pod=pod)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


async def _call(loop: Loop, path: str, method: str, fields: dict[str, Any]) -> None:
    """Call the shim, if it is there. Raises ``OSError``, ``TimeoutError``, ``Failure``."""
    decoder, answer = ttrpc.Decoder(), Future[bytes](loop)

    def on_data(data: bytes) -> None:
        for _, _, payload in decoder.feed(data):
            answer.set_result(payload)

    def on_close() -> None:
        answer.set_error(ConnectionError("the shim hung up"))

    connection = Connection.connect(loop, path, on_data, on_close)
    try:
        payload = task_messages.METHODS[method][0].encode(fields)
        connection.send(ttrpc.request(1, task_messages.SERVICE, method, payload))
        ttrpc.result(await loop.within(_CALL_S, answer))
    finally:
        connection.close()
