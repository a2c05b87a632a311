"""The folders behind a pod's volumes, made before its sandbox and removed after it.

Under ``vm`` an emptyDir's folder only names the disk that the guest gets (``io.alcove.empty-dir.*``); elsewhere it is
what the containers see, and a tmpfs is mounted there for the medium ``Memory``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from alcove.errors import HostError, InvalidRequest
from alcove.instances.manifest import Files, HostPath, Nfs, Pod, Volume
from alcove.instances.place import Place
from alcove.instances.tier import PodTier

# What a tmpfs may hold where nothing is said: half of a small machine's memory would be Linux's own choice.
MEMORY_DEFAULT = 64 << 20
# What the shim says of a volume that the guest could not mount (``guest/nfs.py``): server and path, and why.
_MOUNT = "mount_nfs: "


def make(pod: Pod, place: Place, isolation: PodTier) -> None:
    """Make what is not there yet. Blocking. Raises ``InvalidRequest`` or ``HostError``."""
    check(pod, isolation)
    place.logs.mkdir(parents=True, exist_ok=True)
    os.chmod(place.folder, 0o711)  # noqa: S103 (users of containers reach their volumes)
    for one in [*pod.spec.init_containers, *pod.spec.containers]:
        (place.logs / one.name).mkdir(exist_ok=True)
    for volume in pod.spec.volumes:
        if volume.empty_dir is not None:
            _make_empty(volume, place, isolation)
        elif volume.files is not None:
            _write_files(volume.files, place.files(volume.name))
        elif volume.host_path is not None:
            _check_host_path(volume.host_path)
        elif volume.nfs is not None:
            place.nfs(volume.name).mkdir(parents=True, exist_ok=True)


def check(pod: Pod, isolation: PodTier) -> None:
    """Raises ``InvalidRequest`` for a volume that is not offered, before anything is written down."""
    names = {volume.name for volume in pod.spec.volumes if volume.nfs is not None}
    if names and isolation is not PodTier.VM:
        raise InvalidRequest("NFS volumes need a machine of the pod's own.", hint="choose the tier vm")
    for container in [*pod.spec.init_containers, *pod.spec.containers]:
        for mount in container.volume_mounts:
            if mount.name in names and mount.sub_path:
                raise InvalidRequest(
                    f"The volume {mount.name} is NFS: it has no sub-paths.", hint="name the whole path in the volume"
                )


def source(volume: Volume, place: Place) -> Path:
    """Return the host's path of a volume."""
    if volume.empty_dir is not None:
        return place.empty_dir(volume.name)
    if volume.host_path is not None:
        return Path(volume.host_path.path)
    return place.nfs(volume.name) if volume.nfs is not None else place.files(volume.name)


def nfs_source(nfs: Nfs) -> str:
    """Return what the guest mounts, in the words of ``shim.spec``."""
    server = f"[{nfs.server}]" if ":" in nfs.server else nfs.server
    return f"{'ro' if nfs.read_only else 'rw'},{server}:{nfs.path}"


def failed_mount(pod: Pod, error: str) -> str | None:
    """Return Kubernetes' words for the volume that the runtime could not mount; None where the error is another."""
    _, found, why = error.partition(_MOUNT)
    if not found:
        return None
    # The volume is told by what is mounted; the rest of it is the guest's to say, which may say anything.
    sources = {one.name: nfs_source(one.nfs).partition(",")[2] for one in pod.spec.volumes if one.nfs is not None}
    name = next((name for name, source in sources.items() if why.startswith(f"{source}: ")), "")
    return f'MountVolume.SetUp failed for volume "{name}": {why}'


def remove(place: Place) -> None:
    """Remove all that ``make`` made, with what was written into it. Blocking."""
    below = f"{place.folder}/"
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1].replace("\\040", " ")
        if target.startswith(below):
            subprocess.run(["/usr/bin/umount", "--lazy", "--no-canonicalize", target], check=False, capture_output=True)
    # Links in it are not followed: containers may have written them.
    shutil.rmtree(place.folder, ignore_errors=True)


def _make_empty(volume: Volume, place: Place, isolation: PodTier) -> None:
    assert volume.empty_dir is not None
    folder = place.empty_dir(volume.name)
    memory = volume.empty_dir.medium == "Memory" and isolation is not PodTier.VM
    # Of one in memory a restart of the host leaves the folder alone, which has no limit.
    if folder.is_dir() and (os.path.ismount(folder) or not memory):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if memory:
        size = volume.empty_dir.bytes or MEMORY_DEFAULT
        options = f"size={size},mode=777,nosuid,nodev"
        command = ["/usr/bin/mount", "-t", "tmpfs", "-o", options, "alcove-volume", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            folder.rmdir()
            raise HostError(f"the volume {volume.name} cannot be made: {done.stderr.strip()}", hint="run as root")
    os.chmod(folder, 0o777)  # noqa: S103 (for whoever a container runs as)


def _write_files(files: Files, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o755)  # noqa: S103 (for whoever a container runs as)
    for item in files.items:
        path = folder / item.path.strip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(item.content)
        os.chmod(path, item.mode)


def _check_host_path(volume: HostPath) -> None:
    path = Path(volume.path)
    if volume.type == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    good = path.is_file() if volume.type == "File" else path.is_dir() if volume.type else path.exists()
    if not good:
        raise InvalidRequest(f"The host has no {volume.type or 'path'} {volume.path}.")
