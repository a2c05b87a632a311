"""The serving process of a pod, from its listening socket to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from alcove.shim.events import Publisher
from alcove.shim.life import Life
from alcove.shim.log import Log
from alcove.shim.loop import Loop
from alcove.shim.node import Node
from alcove.shim.pod import Pod
from alcove.shim.server import Server
from alcove.shim.task_service import TaskService


def serve(listener: socket.socket, path: str, *, pod: str, namespace: str, bundle: str, events: str, node: str) -> None:
    """Serve ``pod`` until its last container is gone. ``path`` is the listener's, and removed at the end."""
    loop = Loop()
    log = Log(f"{bundle}/log")
    loop.on_failure = lambda error: log.error(f"{type(error).__name__}: {error}")
    # containerd kills what it gives up by SIGKILL; anything milder must not leave a machine behind.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    publisher = Publisher(loop, log, events, namespace)
    served = Pod(loop, log, Node(loop, node, namespace=namespace), publisher, id=pod)

    def stop_listening() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        server.close()

    life = Life(loop, served, on_ending=stop_listening, on_end=loop.stop)
    server = Server(loop, log, listener, TaskService(loop, served, life))
    loop.run()
