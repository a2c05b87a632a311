"""What a pod has of the machine, as it is billed: the size of its VM, and the same where it has none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from alcove.instances.manifest import Pod
from alcove.pods.model import Defaults

# Of an emptyDir that names no limit; the shim's disks have it too (``shim.spec``).
EMPTY_DIR_MIB = 10_240


@dataclass(frozen=True, slots=True)
class Size:
    """``disk_mib`` is the containers' writable layer and the emptyDirs that are disks."""

    milli_cpus: int
    memory_mib: int
    disk_mib: int


def size_of(pod: Pod, defaults: Defaults) -> Size:
    """Return the sum of the containers' limits, or the default where none has one."""
    every = [one.resources for one in pod.spec.containers]
    milli_cpus = sum(round(1000 * one.cpus) for one in every) or round(1000 * defaults.cpus)
    memory = sum(one.memory for one in every)
    return Size(milli_cpus, _mib(memory) or defaults.memory_mib, defaults.disk_mib + _volumes(pod))


def _volumes(pod: Pod) -> int:
    disks = [one.empty_dir for one in pod.spec.volumes if one.empty_dir is not None and one.empty_dir.medium == ""]
    return sum(_mib(one.bytes) or EMPTY_DIR_MIB for one in disks)


def _mib(size: int) -> int:
    return math.ceil(size / (1 << 20))
