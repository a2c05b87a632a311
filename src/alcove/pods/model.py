"""What is asked of a pod's machine, checked where it comes in.

The one who asks is a shim: trusted, but what it passes on (annotations, names, sizes) is a tenant's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from alcove.errors import InvalidRequest
from alcove.host.process import ProcessIdentity, boot_id
from alcove.images.scratch import LARGEST_MIB, SMALLEST_MIB

NETWORK_MODEL = "io.alcove.network-model"
HOST_PATHS = "io.alcove.host-paths"
# The name of a registered kernel for the pod's machine.
KERNEL = "io.alcove.kernel"
VCPUS = (1, 2, 4, 8)
# The template of each class serves every pod up to it, less what the guest's own kernel and agent need.
MEMORY_CLASSES_MIB = (4096, 16_384)
SMALLEST_MEMORY_MIB = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62})")
_MOST_ANNOTATIONS = 256
# proc(5): kernel/pid_max; 64 bits of clock ticks.
_MOST_PID, _MOST_TICKS = 1 << 22, (1 << 63) - 1
_LONGEST_ANNOTATION = 65_536


def guest_own_mib(memory_class: int) -> int:
    """Return what of a machine's memory is no pod's: the kernel's account of each page takes a 64th of it."""
    return 128 + memory_class // 32


class PodKey(NamedTuple):
    """Which pod: containerd's namespaces each have names of their own."""

    namespace: str
    pod: str


class NetworkModel(StrEnum):
    """How a machine takes over what a CNI plugin made; see ``pods.network``."""

    TC_FILTER = "tcfilter"
    MACVTAP = "macvtap"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a pod has where nothing is said."""

    cpus: float = 1.0
    memory_mib: int = 2048
    disk_mib: int = LARGEST_MIB
    network: NetworkModel = NetworkModel.TC_FILTER
    host_paths: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """A pod's machine. ``cpus`` and ``memory_mib`` are limits; ``disk_mib`` is what its containers may write beside
    their volumes; ``netns`` None is a pod without a network; ``kernel`` is the digest of a kernel of its own, "" for
    the image's. ``host_paths``: it may be shown paths of the host.
    """

    pod: str
    namespace: str
    netns: str | None
    hostname: str
    cpus: float
    memory_mib: int
    disk_mib: int
    network: NetworkModel
    annotations: Mapping[str, str] = field(default_factory=dict)
    shim: ProcessIdentity | None = None
    kernel: str = ""
    host_paths: bool = False

    @property
    def key(self) -> PodKey:
        return PodKey(self.namespace, self.pod)

    @property
    def vcpus(self) -> int:
        return next(count for count in VCPUS if self.cpus <= count)

    @property
    def memory_class(self) -> int:
        return next(size for size in MEMORY_CLASSES_MIB if self.memory_mib + guest_own_mib(size) <= size)

    def to_json(self) -> dict[str, Any]:
        return {
            "pod": self.pod,
            "namespace": self.namespace,
            "netns": self.netns,
            "hostname": self.hostname,
            "cpus": self.cpus,
            "memory_mib": self.memory_mib,
            "disk_mib": self.disk_mib,
            "network": str(self.network),
            "annotations": dict(self.annotations),
            "shim": self.shim.to_json() if self.shim else None,
            "kernel": self.kernel,
            "host_paths": self.host_paths,
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> PodSpec:
        """Return what ``to_json`` wrote."""
        shim = document["shim"]
        return PodSpec(
            **{**document, "network": NetworkModel(document["network"])}
            | {"shim": ProcessIdentity.from_json(shim) if shim else None}
        )


def parse_spec(request: Mapping[str, Any], defaults: Defaults) -> PodSpec:
    """Return the pod that ``start_pod`` asks for. Raises ``InvalidRequest``."""
    annotations = _annotations(request.get("annotations") or {})
    key = pod_key(request)
    return PodSpec(
        pod=key.pod,
        namespace=key.namespace,
        netns=_netns(request.get("netns")),
        hostname=_text(request, "hostname", _HOSTNAME, "alcove"),
        cpus=_size(request, "cpus", defaults.cpus, 0.01, VCPUS[-1]),
        memory_mib=int(
            _size(
                request,
                "memory_mib",
                defaults.memory_mib,
                SMALLEST_MEMORY_MIB,
                MEMORY_CLASSES_MIB[-1] - guest_own_mib(MEMORY_CLASSES_MIB[-1]),
            )
        ),
        disk_mib=max(SMALLEST_MIB, int(_size(request, "disk_mib", defaults.disk_mib, 1, LARGEST_MIB))),
        network=_model(annotations.get(NETWORK_MODEL), defaults.network),
        annotations={key: value for key, value in annotations.items() if key.startswith("io.alcove.")},
        shim=_shim(request.get("shim")),
        host_paths=defaults.host_paths or annotations.get(HOST_PATHS) == "true",
    )


def pod_key(request: Mapping[str, Any]) -> PodKey:
    """Return which pod a request is about. Raises ``InvalidRequest``."""
    return PodKey(_text(request, "namespace", _NAME, "default"), _text(request, "pod", _NAME, None))


def check_name(value: object, what: str) -> str:
    """Return the value if it can be a name. Raises ``InvalidRequest``."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidRequest(f"{what} {value!r} is no name", hint="letters, digits and ._- (at most 128)")
    return value


def _text(request: Mapping[str, Any], key: str, form: re.Pattern[str], default: str | None) -> str:
    value = request.get(key) or default
    if not isinstance(value, str) or not form.fullmatch(value):
        raise InvalidRequest(f"{key}: {value!r} is not accepted", hint="letters, digits and ._-")
    return value


def _size(request: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    """Return a number between the limits; what is not given, or 0, is the default."""
    value = request.get(key) or default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidRequest(f"{key}: {value!r} is not between {low:g} and {high:g}", hint="lower the pod's limits")
    return value


def _netns(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.startswith("/") or len(value) > 4096 or "\0" in value:
        raise InvalidRequest(f"netns: {value!r} is no path")
    return value


def _annotations(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _MOST_ANNOTATIONS:
        raise InvalidRequest(f"annotations: an object of at most {_MOST_ANNOTATIONS} is wanted")
    for text in (*value, *value.values()):
        if not isinstance(text, str) or len(text) > _LONGEST_ANNOTATION:
            raise InvalidRequest("annotations: texts are wanted")
    return value


def _model(value: str | None, default: NetworkModel) -> NetworkModel:
    try:
        return default if value is None else NetworkModel(value)
    except ValueError:
        raise InvalidRequest(
            f"{NETWORK_MODEL}: {value!r} is no network model", hint=f"choose from {', '.join(NetworkModel)}"
        ) from None


def _shim(value: object) -> ProcessIdentity | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidRequest("shim: an object is wanted")
    return ProcessIdentity(_whole(value, "pid", _MOST_PID), _whole(value, "start_time", _MOST_TICKS), boot_id())


def _whole(shim: Mapping[str, Any], key: str, most: int) -> int:
    number = shim.get(key)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= most:
        raise InvalidRequest(f"shim: {key} is no number between 1 and {most}")
    return number
