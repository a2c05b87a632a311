"""The device by which a guest sees the host's folders: virtio-fs, put into the running machine."""

from __future__ import annotations

import os

from alcove.errors import SandboxError, SandboxGone
from alcove.host.threads import to_the_end
from alcove.pods import virtiofsd
from alcove.pods.host import PodHost
from alcove.vmm.qmp import CommandError
from alcove.vmm.spec import SHARES_PORT, SHARES_TAG

_CHANNEL = "shares-channel"
# As many requests wait at most.
_QUEUE = 1024


async def plug(host: PodHost) -> None:
    """Start the pod's virtiofsd and give the machine, whose memory it works on, a device that it stands behind. Raises
    ``HostError``, ``SandboxError``; what was started ends with the pod's cgroup.
    """
    if host.machine is None:
        raise SandboxGone("the pod's machine is not running")
    shares = host.shares
    process, channel = await to_the_end(virtiofsd.start, host.folder, host.cgroup)
    shares.parent = process
    try:
        device = {"driver": "vhost-user-fs-pci", "id": "shares-device", "bus": SHARES_PORT, "chardev": _CHANNEL}
        backend = {"addr": {"type": "fd", "data": {"str": _CHANNEL}}, "server": False}
        await host.machine.monitor.execute_all(
            ("getfd", {"fdname": _CHANNEL}),
            ("chardev-add", {"id": _CHANNEL, "backend": {"type": "socket", "data": backend}}),
            ("device_add", {**device, "tag": SHARES_TAG, "queue-size": _QUEUE}),
            fd=channel,
        )
        shares.server = await to_the_end(virtiofsd.serving, process)
    except CommandError as error:
        raise SandboxError(f"the machine does not take the host's folders: {error}") from error
    finally:
        os.close(channel)
