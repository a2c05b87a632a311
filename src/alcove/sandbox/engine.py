"""The engine: guest image, network and every tier that works here, brought up together."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from alcove.errors import HostError
from alcove.host.cgroup import Cgroup
from alcove.host.files import instance_tag, private_folder
from alcove.host.network import DEFAULT_SUBNET, Network
from alcove.images.guest import build_guest_image
from alcove.images.rehearsal import rehearsal_image
from alcove.images.scratch import empty_disk
from alcove.sandbox.container_tier import ContainerTier
from alcove.sandbox.guest_images import GuestImages
from alcove.sandbox.protocol import Isolation, Tier
from alcove.sandbox.scratch_guard import ScratchGuard
from alcove.sandbox.vm_launcher import Launcher
from alcove.sandbox.vm_tier import VmTier
from alcove.vmm.accelerator import Accelerator, probe
from alcove.vmm.jail import build_jail
from alcove.vmm.spec import AcceleratorKind

log = logging.getLogger(__name__)


async def open_engine(
    stack: AsyncExitStack,
    *,
    state: Path,
    subnet: str = DEFAULT_SUBNET,
    dns: tuple[str, ...] = (),
    accelerator: str = "auto",
    waiting: int = 1,
    snapshot_bytes: int = 4 << 30,
    isolations: frozenset[Isolation] = frozenset(Isolation),
    unavailable: dict[Isolation, str] | None = None,
    progress: Callable[[str], None] = log.info,
) -> tuple[dict[Isolation, Tier], Network]:
    """Bring up images, network and the tiers that work here; ``stack`` takes them down again. ``unavailable`` is
    told why a tier is not among them.
    """
    # apt and runc take relative paths for something else.
    state = private_folder(state).resolve()
    tag = instance_tag(state)
    image = await asyncio.to_thread(build_guest_image, state / "images", progress=progress)
    images = GuestImages(state / "images", image)
    sample = await rehearsal_image(state / "images" / "rehearsal")
    network = Network(tag, subnet=subnet, dns=dns)
    await network.setup()
    stack.push_async_callback(network.teardown)
    stack.callback(Cgroup.remove_parent, tag)
    tiers: dict[Isolation, Tier] = {}
    if Isolation.VM in isolations:
        jail = await asyncio.to_thread(build_jail, state / "jail")
        chosen = await asyncio.to_thread(_accelerator, accelerator, state, image.kernel)
        scratch = await asyncio.to_thread(empty_disk, private_folder(state / "sandboxes"))
        stack.callback(os.close, scratch)
        log.info("accelerator: %s (%s)", chosen.kind, chosen.reason)
        launcher = Launcher(
            state=state,
            tag=tag,
            images=images,
            jail=jail,
            accelerator=chosen,
            network=network,
            rehearsal_image=sample,
            empty_scratch_fd=scratch,
        )
        tiers[Isolation.VM] = VmTier(launcher, state, waiting=waiting, snapshot_bytes=snapshot_bytes)
        await stack.enter_async_context(ScratchGuard(state, launcher.disk_users))
    for isolation in (Isolation.GVISOR, Isolation.PROCESS):
        if isolation in isolations:
            try:
                tiers[isolation] = ContainerTier(
                    isolation, state=state, tag=tag, images=images, network=network, rehearsal_image=sample
                )
            except HostError as error:
                log.info("tier %s is not offered: %s (%s)", isolation, error, error.hint)
                if unavailable is not None:
                    unavailable[isolation] = str(error)
    return tiers, network


def _accelerator(choice: str, state: Path, kernel: Path) -> Accelerator:
    if choice == "tcg":
        return Accelerator(AcceleratorKind.TCG, "chosen by the settings")
    found = probe(state, kernel)
    if choice == "kvm" and found.kind is not AcceleratorKind.KVM:
        raise HostError(f"KVM does not work here: {found.reason}", hint="run: alcove doctor")
    return found
