"""One pod that runs: its machine with the slots, watched for its end and its shim's.

Each change of a slot is written down before it is made; what fails is taken back. The agent inside is the shim's: once
the machine runs, the host speaks to its VMM alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from alcove.errors import InvalidRequest
from alcove.host.files import unnamed_bytes
from alcove.host.process import Process, ProcessIdentity, cpu_ns
from alcove.host.threads import to_the_end
from alcove.images.image_disk import descriptor, image_disk
from alcove.images.layers import LayerStore
from alcove.pods import network
from alcove.pods.disks import DiskMaker
from alcove.pods.forwards import Forwards
from alcove.pods.host import PodHost
from alcove.pods.launcher import PodLauncher
from alcove.pods.model import PodSpec, check_name
from alcove.pods.shares import Share
from alcove.pods.slots import Image
from alcove.vmm.drives import Drives
from alcove.vmm.machine import Machine
from alcove.vmm.spec import SHARES_TAG, SLOT_BYTES, DiskIo

# What a shim that died may still have had under way when its successor is none.
SHIM_GRACE_S = 10.0


class Pod:
    """See the module's docstring. ``ended`` is called once, where the machine or the shim ended by itself."""

    def __init__(
        self,
        host: PodHost,
        launcher: PodLauncher,
        disks: DiskMaker,
        layers: LayerStore,
        disk_io: DiskIo,
        ended: Callable[[Pod, str], Awaitable[None]],
    ) -> None:
        self.host = host
        self._launcher = launcher
        self._disks = disks
        self._layers = layers
        self._drives = Drives(self.machine.monitor, disk_io)
        cards = host.takeover.interfaces if host.takeover else ()
        addresses = [address for card in cards for address in card.addresses]
        namespace = host.takeover.path if host.takeover else None
        self.forwards = Forwards(host.spec.pod, namespace, addresses, host.streams_socket)
        self._ended = ended
        self._changing = asyncio.Lock()
        self._watches: dict[str, asyncio.Task[None]] = {}

    @property
    def machine(self) -> Machine:
        return self.host.running()

    # As the guard of the host's disk knows it

    @property
    def id(self) -> str:
        return self.host.id

    @property
    def ended(self) -> bool:
        return self.host.machine is None or self.machine.process.exited()

    def disk_bytes(self) -> int:
        """Return what its disks take, whichever daemon made them."""
        return unnamed_bytes(self.machine.process.pid, self.host.folder.stat().st_dev)

    async def end(self, reason: str) -> None:
        await self._ended(self, reason)

    def describe(self) -> dict[str, Any]:
        """Return what ``start_pod`` answers."""
        host = self.host
        process = host.process
        return {
            "agent": str(host.agent_socket),
            "machine": {"pid": process.pid, "start_time": process.started} if process else None,
            "kernel": host.kernel,
            "host_paths": host.spec.host_paths,
            "interfaces": [one.to_json() for one in host.takeover.interfaces] if host.takeover else [],
        }

    # Images and disks

    async def attach_image(self, layers: list[str]) -> dict[str, Any]:
        """Show the layers, lowest first, as one disk; the same ones twice are one disk, counted."""
        files = _check_layers(layers)
        async with self._changing:
            slots = self.host.slots
            image = slots.find_image(files)
            if image is not None:
                image.count += 1
                await self._record()
            else:
                image = slots.add_image(files)
                with self._or_forget(image):
                    await self._record()
                    await self._insert_image(image)
            return {"device": image.device, "partitions": image.partitions}

    @contextlib.contextmanager
    def _or_forget(self, image: Image) -> Any:
        try:
            yield
        except BaseException:
            self.host.slots.remove_image(image)
            self.host.record()
            raise

    async def _insert_image(self, image: Image) -> None:
        async with self._layers.images([Path(path) for path in image.layers]) as layers:
            with image_disk([layer.path for layer in layers], SLOT_BYTES) as pieces:
                await self._drives.insert(image.slot, image.number, pieces, descriptor)
        image.partitions = len(layers)
        await self._record()
        empty = self.host.slots.empties.pop(image.slot, None)
        if empty is not None:
            await self._drives.forget_empty(empty)

    async def detach_image(self, device: str) -> None:
        """Take it away once for each time it was attached; the last time, the slot is empty again."""
        async with self._changing:
            slots = self.host.slots
            image = slots.image_at(device)
            image.count -= 1
            if image.count:
                await self._record()
                return
            slots.empties[image.slot] = slots.number()
            await self._record()
            # Beside its layers, what is before and after them.
            pieces = image.partitions + 2
            await self._drives.eject(image.slot, image.number, pieces, slots.empties[image.slot])
            slots.remove_image(image)
            await self._record()

    async def attach_disk(self, name: str, size: int) -> dict[str, Any]:
        """Give the pod a disk of its own that holds ``size`` bytes; the same name again is the same disk."""
        check_name(name, "disk")
        size = self._disks.check(size)
        async with self._changing:
            disk = self.host.slots.find_disk(name, size)
            if disk is None:
                disk = self.host.slots.add_disk(name, size)
                try:
                    await self._record()
                    fd = await to_the_end(self._disks.make, size)
                    try:
                        await self._drives.insert_disk(disk.slot, disk.number, fd, self._launcher.tuning)
                    finally:
                        os.close(fd)
                except BaseException:
                    self.host.slots.disks.pop(name, None)
                    self.host.record()
                    raise
            return {"device": disk.device, "fresh": False}

    async def share_path(self, name: str, share: Share) -> dict[str, Any]:
        """Show a path of the host's to the guest; what is there already under that name is shown once."""
        async with self._changing:
            shares = self.host.shares
            shares.add(name, share)
            await self._record()
            await to_the_end(shares.show, name)
            await self._record()
            return {"tag": SHARES_TAG, "path": name}

    async def _record(self) -> None:
        await to_the_end(self.host.record)

    # Limits and figures

    async def update(self, spec: PodSpec) -> None:
        """Change what the pod may use. Raises ``InvalidRequest`` beyond what its machine was made for."""
        own = self.host.spec
        if spec.vcpus > own.vcpus or spec.memory_class > own.memory_class:
            raise InvalidRequest(
                f"the pod's machine has {own.vcpus} processors and {own.memory_class} MiB",
                hint="start the pod anew with larger limits",
            )
        self.host.spec = replace(own, cpus=spec.cpus, memory_mib=spec.memory_mib)
        await self._record()
        self._launcher.limit_memory(self.host)
        self._launcher.limit_cpu(self.host)

    async def statistics(self) -> dict[str, Any]:
        takeover = self.host.takeover
        traffic = await to_the_end(network.statistics, takeover) if takeover else []
        return {
            "machine": {
                "rss_bytes": self.host.cgroup.memory_bytes(),
                "cpu_ns": cpu_ns(self.machine.process.pid),
            },
            "network": traffic,
        }

    # Ends

    def watch(self) -> None:
        """Watch the machine, the shim and the ports from now on."""
        self._watches["machine"] = asyncio.create_task(self._watch_machine())
        if self.host.shares.server is not None:
            self._watches["shares"] = asyncio.create_task(self._watch_shares(self.host.shares.server))
        self.watch_shim(self.host.spec.shim)
        self.forwards.start()

    def watch_shim(self, shim: ProcessIdentity | None) -> None:
        """Watch this shim in the place of an earlier one."""
        self.host.spec = replace(self.host.spec, shim=shim)
        earlier = self._watches.pop("shim", None)
        if earlier is not None:
            earlier.cancel()
        if shim is not None:
            self._watches["shim"] = asyncio.create_task(self._watch_shim(shim))

    async def _watch_machine(self) -> None:
        how = await self.machine.ended()
        await self._ended(self, how)

    async def _watch_shares(self, server: ProcessIdentity) -> None:
        await _end_of(server)
        # Whoever has a file of the host's open would wait for ever.
        await self._ended(self, "its virtiofsd has ended")

    async def _watch_shim(self, shim: ProcessIdentity) -> None:
        await _end_of(shim)
        await asyncio.sleep(SHIM_GRACE_S)
        await self._ended(self, "its shim has ended")

    async def unwatch(self) -> None:
        for task in self._watches.values():
            if task is not asyncio.current_task():
                task.cancel()
        self._watches.clear()
        await self.forwards.close()

    async def leave(self) -> None:
        """Let go of it without ending it: a later daemon adopts it."""
        await self.unwatch()
        async with self._changing:
            await self.machine.detach()
            self.host.shares.leave()


async def _end_of(identity: ProcessIdentity) -> None:
    process = Process.adopt(identity)
    if process is not None:
        try:
            await process.wait()
        finally:
            process.release()


def _check_layers(layers: object) -> tuple[str, ...]:
    if not isinstance(layers, list) or not 1 <= len(layers) <= 128:
        raise InvalidRequest("layers: a list of 1 to 128 paths is wanted")
    for path in layers:
        if not isinstance(path, str) or not Path(path).is_absolute() or "\0" in path:
            raise InvalidRequest(f"layers: {path!r} is no absolute path")
    return tuple(layers)
