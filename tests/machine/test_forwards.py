"""A pod's ports, dialled in its network namespace as containerd's PortForward does, answered in its machine."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from tests.machine.lab import command
from tests.machine.podlab import POD, PodLab, PodNetwork, pod_network

from alcove.host.netns import open_namespace, within

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

ECHO, POD_ONLY, DEAF, NOBODY = 8001, 8002, 8003, 8009
SERVERS = f"""
import socket, threading
def serve(address, answer):
    listener = socket.create_server(address)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,)).start()
def echo(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
def name(connection):
    with connection:
        connection.sendall(b"at the pod's address")
kept = []
threading.Thread(target=serve, args=(("{POD}", {POD_ONLY}), name)).start()
threading.Thread(target=serve, args=(("127.0.0.1", {DEAF}), kept.append)).start()
serve(("127.0.0.1", {ECHO}), echo)
"""
SENT = os.urandom(1 << 20)


def dial(network: PodNetwork, port: int) -> socket.socket:
    namespace = open_namespace(network.path)
    try:
        return within(namespace, lambda: socket.create_connection(("127.0.0.1", port), 10))
    finally:
        os.close(namespace)


async def ask(network: PodNetwork, port: int, words: bytes = b"") -> bytes:
    """Send it all, with its end; return what comes, up to its end."""
    reader, writer = await asyncio.open_connection(sock=await asyncio.to_thread(dial, network, port))
    try:
        async with asyncio.timeout(60):
            answer = asyncio.ensure_future(reader.read(-1))
            writer.write(words)
            await writer.drain()
            writer.write_eof()
            return await answer
    finally:
        writer.close()


async def first_answer(network: PodNetwork, port: int) -> bytes:
    """Ask until somebody listens."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask(network, port, b"hello")
            except OSError:
                await asyncio.sleep(0.2)


async def test_ports_of_the_machine_answer_in_the_namespace(pods: PodLab) -> None:
    with pod_network() as network:
        before = network.describe()
        started = await pods.ask("start_pod", pod="ports", netns=network.path)
        async with pods.guest(started) as guest:
            await guest.agent.batch({"op": "run", "argv": ["/usr/bin/python3.11", "-c", SERVERS]})
            assert await first_answer(network, ECHO) == b"hello"
            # Nobody outside the namespace has a way to the listener.
            heard = command("ip", "netns", "exec", network.name, "ss", "-Htln").splitlines()
            assert [line.split()[3].rpartition(":")[0] for line in heard] == ["127.0.0.1"]
            assert await ask(network, POD_ONLY) == b"at the pod's address"
            with pytest.raises(ConnectionResetError):
                await ask(network, NOBODY)
            # One that is not read holds up nobody else.
            with dial(network, DEAF) as deaf:
                deaf.setblocking(False)
                with pytest.raises(BlockingIOError):
                    while True:
                        deaf.send(SENT)
                answers = await asyncio.gather(*(ask(network, ECHO, SENT) for _ in range(3)))
                assert answers == [SENT] * 3
            await pods.restart()
            assert await first_answer(network, ECHO) == b"hello"
            await pods.ask("stop_pod", pod="ports")
            with pytest.raises(ConnectionRefusedError):
                dial(network, ECHO)
            assert command("ip", "netns", "exec", network.name, "nft", "list", "tables") == ""
            assert network.describe() == before
