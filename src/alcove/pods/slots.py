"""Which of a machine's slots holds what: a pure account, written down before each change is made.

An image is known by the layers it is made of; the same layers in the same pod are one image, counted. A disk is known
by its name. Every change takes the next number, by which the nodes and descriptors inside the VMM are named: no name is
used twice in the life of a machine, whichever daemon makes the change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from alcove.errors import CapacityError, InvalidRequest, NotFound
from alcove.vmm.spec import DISK_SLOTS, IMAGE_SLOTS, slot_device


@dataclass(slots=True)
class Image:
    """``number`` names what is behind the slot; ``partitions`` is how many the guest finds there."""

    slot: str
    layers: tuple[str, ...]
    number: int
    partitions: int = 0
    count: int = 1

    @property
    def device(self) -> str:
        return slot_device(self.slot)


@dataclass(slots=True)
class Disk:
    slot: str
    name: str
    number: int
    bytes: int

    @property
    def device(self) -> str:
        return slot_device(self.slot)


@dataclass(slots=True)
class Slots:
    """See the module's docstring."""

    images: dict[str, Image] = field(default_factory=dict)  # by slot
    disks: dict[str, Disk] = field(default_factory=dict)  # by name
    empties: dict[str, int] = field(default_factory=dict)  # the numbers of what is behind slots that are empty again
    next: int = 1

    def number(self) -> int:
        self.next += 1
        return self.next - 1

    def find_image(self, layers: tuple[str, ...]) -> Image | None:
        return next((image for image in self.images.values() if image.layers == layers), None)

    def add_image(self, layers: tuple[str, ...]) -> Image:
        """Take a slot. Raises ``CapacityError``."""
        slot = next((name for name in IMAGE_SLOTS if name not in self.images), None)
        if slot is None:
            raise CapacityError(
                f"a pod has at most {len(IMAGE_SLOTS)} images at once", hint="remove containers, then try again"
            )
        image = self.images[slot] = Image(slot, layers, self.number())
        return image

    def image_at(self, device: str) -> Image:
        for image in self.images.values():
            if image.device == device:
                return image
        raise NotFound(f"no image is at {device}")

    def remove_image(self, image: Image) -> None:
        self.images.pop(image.slot, None)

    def add_disk(self, name: str, size: int) -> Disk:
        """Take a slot for a disk of that name. Raises ``CapacityError``."""
        used = {disk.slot for disk in self.disks.values()}
        slot = next((name for name in DISK_SLOTS if name not in used), None)
        if slot is None:
            raise CapacityError(
                f"a pod has at most {len(DISK_SLOTS)} disks", hint="use fewer volumes, or the memory medium"
            )
        disk = self.disks[name] = Disk(slot, name, self.number(), size)
        return disk

    def find_disk(self, name: str, size: int) -> Disk | None:
        """Return the disk of that name, if it is there. Raises ``InvalidRequest`` where it has another size."""
        disk = self.disks.get(name)
        if disk is not None and disk.bytes != size:
            raise InvalidRequest(f"the disk {name} has {disk.bytes} bytes, not {size}")
        return disk

    def to_json(self) -> dict[str, Any]:
        return {
            "images": [
                [one.slot, list(one.layers), one.number, one.partitions, one.count] for one in self.images.values()
            ],
            "disks": [[one.slot, one.name, one.number, one.bytes] for one in self.disks.values()],
            "empties": self.empties,
            "next": self.next,
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> Slots:
        slots = Slots(empties=dict(document["empties"]), next=int(document["next"]))
        for slot, layers, number, partitions, count in document["images"]:
            slots.images[slot] = Image(slot, tuple(layers), number, partitions, count)
        for slot, name, number, size in document["disks"]:
            slots.disks[name] = Disk(slot, name, number, size)
        return slots
