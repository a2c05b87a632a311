"""The account of a pod's slots: no two holders of one slot, no number twice, nothing lost on the disk."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import CapacityError, InvalidRequest, NotFound
from alcove.pods.slots import Slots
from alcove.vmm.spec import DISK_SLOTS, IMAGE_SLOTS, slot_device

names = st.sampled_from([f"n{number}" for number in range(12)])


@given(st.lists(st.tuples(st.sampled_from(["image", "gone", "disk"]), names)))
def test_slots_are_held_once_and_numbers_never_come_again(steps: list[tuple[str, str]]) -> None:
    slots, numbers = Slots(), []
    for what, name in steps:
        try:
            if what == "image" and slots.find_image((name,)) is None:
                numbers.append(slots.add_image((name,)).number)
            elif what == "disk" and slots.find_disk(name, 1) is None:
                numbers.append(slots.add_disk(name, 1).number)
            elif what == "gone" and (image := slots.find_image((name,))):
                slots.remove_image(image)
        except CapacityError:
            assert len(slots.images) == len(IMAGE_SLOTS) or len(slots.disks) == len(DISK_SLOTS)
        slots = Slots.from_json(json.loads(json.dumps(slots.to_json())))
    held = [one.slot for one in (*slots.images.values(), *slots.disks.values())]
    assert len(held) == len(set(held))
    assert len(numbers) == len(set(numbers))


def test_the_guests_names_follow_from_the_order() -> None:
    assert [slot_device(slot) for slot in (IMAGE_SLOTS[0], IMAGE_SLOTS[-1], DISK_SLOTS[0], DISK_SLOTS[-1])] == [
        "vdc", "vdj", "vdk", "vdr",
    ]  # fmt: skip


def test_what_is_not_there_is_said() -> None:
    slots = Slots()
    with pytest.raises(NotFound):
        slots.image_at("vdc")
    slots.add_disk("a", 1)
    with pytest.raises(InvalidRequest):
        slots.find_disk("a", 2)
