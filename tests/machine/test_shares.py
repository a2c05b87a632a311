"""Folders of the host in a pod's machine: what is shared is there, and nothing else of the host is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machine.lab import command, until
from tests.machine.podlab import PodLab
from tests.machine.programs import Programs

from alcove.errors import InvalidRequest
from alcove.sandbox.agent import AgentClient

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

OPERATORS = {"io.alcove.host-paths": "true"}
SHARES = "/run/alcove/shares"


class Sharer:
    """A pod's guest whose containers see what is shared at /shares."""

    def __init__(self, pods: PodLab, agent: AgentClient) -> None:
        self._pods = pods
        self._agent = agent
        self.programs = Programs(pods, "shares", agent, (SHARES, "/shares"))

    async def share(self, name: str, source: Path, **rights: Any) -> None:
        answer = await self._pods.ask("share_path", pod="shares", name=name, source=str(source), **rights)
        await self._agent.request("mount_share", tag=answer["tag"], name=name)

    async def attempt(self, name: str, *lines: str) -> list[str]:
        return await self.programs.attempt(f"/shares/{name}", *lines)


@contextlib.contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    command("mount", *map(str, arguments))
    try:
        yield
    finally:
        command("umount", "-l", str(arguments[-1]))


async def test_folders_of_the_host(pods: PodLab, tmp_path: Path) -> None:
    data, secret = tmp_path / "data", tmp_path / "secret"
    (data / "below").mkdir(parents=True)
    (data / "hello").write_text("from the host")
    secret.write_text("nobody's")
    (data / "out").symlink_to(secret)
    with pytest.raises(InvalidRequest):
        await pods.ask("start_pod", pod="plain")
        await pods.ask("share_path", pod="plain", name="data", source=str(data))
    started = await pods.ask("start_pod", pod="shares", annotations=OPERATORS)
    # As a distribution's own mounts are: what is mounted below them later is seen by others too.
    with mounted("--bind", data, data):
        command("mount", "--make-shared", str(data))
        async with pods.guest(started) as guest:
            sharer = Sharer(pods, guest.agent)
            await sharer.programs.mount(tmp_path / "programs")
            await sharer.share("data", data, read_only=False)
            assert await sharer.attempt(
                "data",
                "open('hello').read()",
                "open('new', 'w').write('from the guest')",
                # Links lead to the guest's files, and the folder above is not the host's.
                "open('out').read()",
                "os.listdir('..')",
                "os.mknod('null', 0o20666, os.makedev(1, 3))",
                "os.chmod('new', 0o4755)",
                "os.chmod('new', 0o2755)",
                "os.close(os.open('privileged', os.O_CREAT | os.O_WRONLY, 0o4755))",
                "os.chown('new', 1234, 1234)",
                "os.chmod('new', 0o640)",
            ) == ["from the host", "14", "ENOENT", "['data']", *["EPERM"] * 4, "None", "None"]
            assert (data / "new").read_text() == "from the guest"
            status = (data / "new").stat()
            assert (status.st_mode & 0o7777, status.st_uid) == (0o640, 1234)
            # Below it the host mounts a file system of its own: seen where that was asked for, and read-only with it.
            await sharer.share("later", data, read_only=False, follows=True)
            with mounted("-t", "tmpfs", "tmpfs", data / "below"):
                (data / "below" / "deep").write_text("deep")
                assert await sharer.attempt("data", "os.listdir('below')") == ["[]"]
                assert await sharer.attempt("later", "os.listdir('below')") == ["['deep']"]
                await sharer.share("top", data, read_only=True, recursive=False)
                await sharer.share("all", data, read_only=True)
                writes = ("open('hello', 'w')", "open('below/deep', 'w').write('x')", "open('below/deep').read()")
                assert await sharer.attempt("top", *writes) == ["EROFS", "1", "x"]
                assert await sharer.attempt("all", *writes) == ["EROFS", "EROFS", "x"]
                # One file alone.
                await sharer.share("one", data / "hello", read_only=True)
                assert await sharer.attempt(".", "open('one').read()", "open('one', 'w')") == ["from the host", "EROFS"]
                await pods.restart()
                await sharer.share("adopted", data / "below", read_only=True)
                assert await sharer.attempt("adopted", "os.listdir('.')") == ["['deep']"]


async def test_a_pod_ends_with_its_virtiofsd(pods: PodLab) -> None:
    started = await pods.ask("start_pod", pod="shares", annotations=OPERATORS)
    pid = started["machine"]["pid"]
    (pod,) = (one for one in pods.service._pods.values() if one.host.spec.pod == "shares")
    server = pod.host.shares.server
    assert server is not None
    os.kill(server.pid, 9)
    await until(lambda: not os.path.exists(f"/proc/{pid}"))
    await until(lambda: not pods.leftovers())
