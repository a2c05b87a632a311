"""What pods' machines of one template have in common."""

from __future__ import annotations

from typing import NamedTuple

from alcove.pods.model import NetworkModel, PodSpec, guest_own_mib
from alcove.pods.network import Takeover


class Shape(NamedTuple):
    vcpus: int
    memory_class: int
    cards: int = 1
    # The digest of a kernel of its own, "" for the image's.
    kernel: str = ""
    # It may be shown folders of the host: its memory is its own then, and shared with who shows them.
    host_paths: bool = False

    @classmethod
    def of(cls, spec: PodSpec, takeover: Takeover | None) -> Shape:
        cards = len(takeover.interfaces) if takeover else 1
        return cls(spec.vcpus, spec.memory_class, cards, spec.kernel, spec.host_paths)

    def vacant(self, disk_mib: int) -> PodSpec:
        """Return what a machine of this shape has while it is nobody's: all that it may be given, but for its disk."""
        return PodSpec(
            pod="",
            namespace="",
            netns=None,
            hostname="alcove",
            cpus=self.vcpus,
            memory_mib=self.memory_class - guest_own_mib(self.memory_class),
            disk_mib=disk_mib,
            network=NetworkModel.TC_FILTER,
            kernel=self.kernel,
            host_paths=self.host_paths,
        )
