"""What a shim may ask of a pod's machine."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_spec import SPEC

from alcove.errors import InvalidRequest
from alcove.host.netns import open_namespace
from alcove.pods.model import Defaults, NetworkModel, PodSpec, parse_spec
from alcove.vmm.spec import DeviceModel, DiskTuning, instance_slots, render


def test_what_is_not_said_is_the_default() -> None:
    spec = parse_spec({"pod": "a", "cpus": 0, "memory_mib": 0}, Defaults())
    assert (spec.cpus, spec.vcpus, spec.memory_mib, spec.memory_class) == (1.0, 1, 2048, 4096)
    assert spec.netns is None


def test_the_machine_is_the_smallest_that_fits() -> None:
    spec = parse_spec({"pod": "a", "cpus": 2.5, "memory_mib": 4000}, Defaults())
    assert (spec.vcpus, spec.memory_class) == (4, 16_384)


def test_a_record_gives_the_same_pod() -> None:
    request = {
        "pod": "a",
        "netns": "/run/netns/x",
        "annotations": {"io.alcove.network-model": "macvtap", "other": "gone"},
        "shim": {"pid": 7, "start_time": 8},
    }
    spec = parse_spec(request, Defaults())
    assert spec.network is NetworkModel.MACVTAP
    assert PodSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"pod": "../x"},
        {"pod": None},
        {"pod": "a", "hostname": "a b"},
        {"pod": "a", "cpus": 9},
        {"pod": "a", "cpus": "1"},
        {"pod": "a", "memory_mib": 1 << 40},
        {"pod": "a", "memory_mib": True},
        {"pod": "a", "netns": "net"},
        {"pod": "a", "netns": "/a\0b"},
        {"pod": "a", "annotations": {"a": 1}},
        {"pod": "a", "annotations": {"io.alcove.network-model": "bridge"}},
        {"pod": "a", "annotations": {str(number): "" for number in range(300)}},
        {"pod": "a", "shim": {"pid": "x"}},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        parse_spec(wrong, Defaults())


_WORDS = st.one_of(st.text(max_size=40), st.sampled_from(["-device", "console=x init=/bin/sh", "a,b=c", "../x", "\0"]))
_KEYS = st.one_of(st.sampled_from(["io.alcove.kernel", "io.alcove.append", "io.alcove.vcpus"]), _WORDS)


@given(st.dictionaries(_KEYS, _WORDS, max_size=5))
def test_annotations_are_no_arguments_of_a_machine(annotations: dict[str, str]) -> None:
    """Refused, or kept as they are, beside a machine that is the same without them."""
    plain = parse_spec({"pod": "a"}, Defaults())
    with contextlib.suppress(InvalidRequest):
        spec = parse_spec({"pod": "a", "annotations": annotations}, Defaults())
        assert replace(spec, annotations={}) == plain
        assert spec.annotations.items() <= annotations.items()


def test_the_hosts_own_network_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="hostNetwork"):
        open_namespace("/proc/self/ns/net")
    with pytest.raises(InvalidRequest, match="no network namespace"):
        open_namespace("/proc/self/ns/mnt")


def test_how_disks_are_served_is_said_of_those_alone() -> None:
    tuning = DiskTuning(queues=2, length=512, packed=True, tables=False)
    drives = (*SPEC.drives[:1], *instance_slots())
    words = render(replace(SPEC, model=DeviceModel.INSTANCE, drives=drives, tuning=tuning))
    (disk,) = [word for word in words if "drive=disk0," in word]
    assert disk.endswith("num-queues=2,queue-size=512,packed=on,indirect_desc=off")
    (image,) = [word for word in words if "drive=image0," in word]
    assert image.endswith("num-queues=1,queue-size=64")


def test_each_processor_has_a_queue_of_its_own() -> None:
    drives = (*SPEC.drives[:1], *instance_slots())
    words = render(replace(SPEC, model=DeviceModel.INSTANCE, drives=drives, vcpus=4))
    (disk,) = [word for word in words if "drive=disk0," in word]
    assert disk.endswith("num-queues=4,queue-size=128")
    (image,) = [word for word in words if "drive=image0," in word]
    assert image.endswith("num-queues=1,queue-size=64")


def test_slots_are_the_last_disks(snapshot: object) -> None:
    spec = replace(SPEC, model=DeviceModel.INSTANCE, drives=(*SPEC.drives[:1], *instance_slots()), vcpus=2)
    arguments = render(spec)
    assert [word for word in arguments if "image7" in word or "disk7" in word] == snapshot


def test_a_pod_is_known_by_its_namespace_and_name() -> None:
    requests: tuple[dict[str, Any], ...] = ({"pod": "a", "namespace": "k"}, {"pod": "a"}, {"pod": "a", "cpus": 2})
    one, other, same = (parse_spec(request, Defaults()).key for request in requests)
    assert one == ("k", "a")
    assert one != other == same == ("default", "a")
