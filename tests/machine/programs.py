"""Containers whose programs are the guest's own: what root in them may do is tried line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.machine.lab import until
from tests.machine.pod_guest import spec
from tests.machine.podlab import PodLab

from alcove.sandbox.agent import AgentClient

TRY = """
import errno, os, sys
os.chdir(sys.argv[1])
for line in sys.argv[2:]:
    try:
        print(eval(line))
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


class Programs:
    """``binds`` are folders of the guest, and where containers see them (below their root)."""

    def __init__(self, pods: PodLab, pod: str, agent: AgentClient, *binds: tuple[str, str]) -> None:
        self._pods = pods
        self._pod = pod
        self._agent = agent
        self._binds = binds
        self._count = 0
        self._printed = bytearray()
        self._ends: list[dict[str, Any]] = []
        agent.on_log = lambda process, stream, data: self._printed.extend(data)
        agent.on_event = self._ends.append

    async def mount(self, folder: Path) -> None:
        """Make the image, in an empty folder."""
        for name in ("usr", "proc", *(target.strip("/") for _, target in self._binds)):
            (folder / name).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (folder / name).symlink_to(f"usr/{name}")
        attached = await self._pods.ask("attach_image", pod=self._pod, layers=[str(folder)])
        await self._agent.request("mount_image", name="programs", **attached)

    async def attempt(self, folder: str, *lines: str) -> list[str]:
        """Return what each line gives, in a container of its own that stands in the folder."""
        self._count += 1
        id = f"c{self._count}"
        request: dict[str, Any] = {"image": "programs", "pid": "container", "terminal": False, "stdin": False}
        self._printed.clear()
        self._ends.clear()
        await self._agent.request("create_container", id=id, spec=self._spec(folder, *lines), **request)
        await self._agent.request("start_container", id=id)
        await until(lambda: self._ends, 30)
        await self._agent.request("delete_container", id=id)
        return self._printed.decode().splitlines()

    def _spec(self, *words: str) -> dict[str, Any]:
        document = spec("/usr/bin/python3.11", "-I", "-S", "-c", TRY, *words)
        capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD"]
        document["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
        document["mounts"] += [
            {"destination": target, "type": "bind", "source": source, "options": ["rbind"]}
            for source, target in (("/usr", "/usr"), *self._binds)
        ]
        return document
