"""NFS volumes in a pod's machine, of a real server."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.machine.nfs_server import PORT, nfs_server
from tests.machine.podlab import HOST, PodLab, pod_network
from tests.machine.programs import Programs

from alcove.sandbox.agent import AgentError

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

NFS = "/run/alcove/nfs"


async def test_volumes_of_an_nfs_server(pods: PodLab, tmp_path: Path) -> None:
    with pod_network() as network, nfs_server(tmp_path / "nfs", HOST) as server:
        exported = server.exported
        (exported / "hello").write_text("from the server")
        # What a server's devices and set-user-id say is nothing to a pod.
        os.mknod(exported / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        started = await pods.ask("start_pod", pod="nfs", netns=network.path)
        async with pods.guest(started) as guest:

            async def mount(name: str, **fields: Any) -> None:
                request = {"server": HOST, "path": "/data", "options": [f"port={PORT}"], "read_only": False, **fields}
                await guest.agent.request("mount_nfs", name=name, timeout_s=60, **request)

            # Asked twice at once, mounted once; the agent goes on meanwhile.
            await asyncio.gather(mount("data"), mount("data"), guest.agent.request("hello"))
            await mount("kept", read_only=True)
            programs = Programs(pods, "nfs", guest.agent, (NFS, "/nfs"))
            await programs.mount(tmp_path / "programs")
            writes = ("open('new', 'w').write('from a pod')", "os.chown('new', 1234, 5)", "open('hello').read()")
            assert await programs.attempt("/nfs/data", *writes) == ["10", "None", "from the server"]
            flags = "os.statvfs('.').f_flag & os.ST_NOSUID"
            assert await programs.attempt("/nfs/data", "open('null')", flags) == ["EACCES", str(os.ST_NOSUID)]
            assert await programs.attempt("/nfs/kept", *writes) == ["EROFS", "EROFS", "from the server"]
            assert (exported / "new").read_text() == "from a pod"
            assert (exported / "new").stat().st_uid == 1234
            with pytest.raises(AgentError, match="/none: No such file"):
                await mount("none", path="/none")
            # What could not be mounted can be asked for again.
            with pytest.raises(AgentError, match="refused"):
                await mount("none", options=["port=1"])
            with pytest.raises(AgentError, match="name has no address"):
                await mount("none", server="no-such-name.invalid")
            # By what servers tell clones of one template apart.
            _, shown = await guest.run("/bin/cat", "/run/machine-id", "/sys/fs/nfs/net/nfs_client/identifier")
            own, told = shown.split()
            assert own == told
        await pods.ask("stop_pod", pod="nfs")
