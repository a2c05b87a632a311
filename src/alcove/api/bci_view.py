"""An instance as BCI's clients read it; its status in the words of Kubernetes.

A page of a list may have a thousand: of their manifests only what the page says is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from alcove.api.bci_manifest import GIB, read_note
from alcove.instances import quantity
from alcove.instances.manifest import Container, Files, Pod, Quantity
from alcove.instances.service import Instance
from alcove.instances.status import moment
from alcove.store.instances import PodEventRow, PodRow

Document = dict[str, Any]
TERMINATING = "Terminating"


class _Resources(msgspec.Struct, gc=False):
    limits: dict[str, Quantity] = {}


class _Container(msgspec.Struct, gc=False):
    resources: _Resources = msgspec.field(default_factory=_Resources)


class _Spec(msgspec.Struct, rename="camel", gc=False):
    containers: list[_Container]
    restart_policy: str = "Always"


class _Metadata(msgspec.Struct, gc=False):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Outline(msgspec.Struct, gc=False):
    """What a list says of a manifest."""

    spec: _Spec
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Status(msgspec.Struct, gc=False, rename={"pod_ip": "podIP", "start_time": "startTime"}):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = ""
    start_time: str = ""


_OUTLINE = msgspec.json.Decoder(_Outline)
_STATUS = msgspec.json.Decoder(_Status)


class _Tag(msgspec.Struct, gc=False, rename="camel"):
    tag_key: str
    tag_value: str


class Summary(msgspec.Struct, gc=False, rename="camel"):
    """InstanceModel."""

    instance_id: str
    instance_name: str
    status: str
    reason: str
    message: str
    zone_name: str
    cpu: float
    memory: float
    internal_ip: str
    create_time: str
    update_time: str
    delete_time: str | None
    restart_policy: str
    tags: list[_Tag]
    cpu_type: str = ""
    gpu_type: str = ""
    bandwidth_in_mbps: int = 0
    public_ip: str = ""


def summary(row: PodRow) -> Summary:
    outline, status = _OUTLINE.decode(row.manifest), _STATUS.decode(row.status)
    note = read_note(outline.metadata.annotations)
    created = moment(row.created_ms)
    limits = [one.resources.limits for one in outline.spec.containers]
    return Summary(
        row.instance_id,
        note.name or row.name,
        TERMINATING if row.deleted_ms else status.phase,
        status.reason,
        status.message,
        note.zone,
        sum(map(_cores, limits)),
        sum(map(_gib, limits)),
        status.pod_ip,
        created,
        status.start_time or created,
        moment(row.deleted_ms) if row.deleted_ms else None,
        outline.spec.restart_policy,
        [_Tag(key, value) for key, value in outline.metadata.labels.items()],
    )


def detail(one: Instance, events: Sequence[PodEventRow]) -> Document:
    """Return InstanceDetailModel, and what Kubernetes would say beyond it."""
    note = read_note(one.pod.metadata.annotations)
    told = {row["name"]: row for row in one.status.get("containerStatuses", ())}
    told |= {row["name"]: row for row in one.status.get("initContainerStatuses", ())}
    spec = one.pod.spec
    return {
        **msgspec.to_builtins(summary(one.row)),
        "volume": _volume(one.pod),
        "containers": [_container(item, one, told.get(item.name)) for item in spec.containers],
        "initContainers": [_container(item, one, told.get(item.name)) for item in spec.init_containers],
        "securityGroups": [
            {"securityGroupId": group, "name": group, "description": "", "vpcId": ""} for group in note.groups
        ],
        "vpc": None,
        "subnet": _subnet(note.subnets),
        "conditions": one.status.get("conditions", []),
        "events": [_event(row) for row in events],
    }


def _subnet(subnets: list[str]) -> Document | None:
    if not subnets:
        return None
    names = ("name", "cidr", "vpcId", "subnetType", "description", "createTime")
    return {"subnetId": subnets[0], **dict.fromkeys(names, "")}


def _event(row: PodEventRow) -> Document:
    return {
        "type": row.type,
        "reason": row.reason,
        "message": row.message,
        "count": row.count,
        "firstTimestamp": moment(row.first_ms),
        "lastTimestamp": moment(row.last_ms),
    }


def _cores(limits: dict[str, Quantity]) -> float:
    return float(quantity.parse(limits.get("cpu", 0)))


def _gib(limits: dict[str, Quantity]) -> float:
    return quantity.whole(limits.get("memory", 0)) / GIB


def _container(item: Container, one: Instance, told: Document | None) -> Document:
    state = (told or {}).get("state", {"waiting": {}})
    created = moment(one.row.created_ms)
    return {
        "name": item.name,
        "image": item.image,
        "cpu": _cores(item.resources.limits),
        "gpu": 0.0,
        "memory": _gib(item.resources.limits),
        "workingDir": item.working_dir,
        "imagePullPolicy": item.image_pull_policy or "IfNotPresent",
        "commands": item.command,
        "args": item.args,
        "ports": [{"name": port.name, "port": port.container_port, "protocol": port.protocol} for port in item.ports],
        "volumeMounts": [
            {
                "name": mount.name,
                "type": _kind(one.pod, mount.name),
                "mountPath": mount.mount_path,
                "readOnly": mount.read_only,
            }
            for mount in item.volume_mounts
        ],
        "envs": [{"key": row.name, "value": row.value} for row in item.env],
        "createTime": created,
        "updateTime": next(iter(state.values())).get("startedAt", created),
        "deleteTime": None,
        "previousState": _state((told or {}).get("lastState", {})),
        "currentState": _state(state),
        "ready": bool((told or {}).get("ready")),
        "restartCount": (told or {}).get("restartCount", 0),
    }


def _state(state: Document) -> Document | None:
    """Return ContainerStatus of Kubernetes' state of a container."""
    for kind, said in state.items():
        return {
            "state": kind.capitalize(),
            "reason": said.get("reason", ""),
            "message": said.get("message", ""),
            "startTime": said.get("startedAt", ""),
            "finishTime": said.get("finishedAt", ""),
            "detailStatus": said.get("reason", ""),
            "exitCode": said.get("exitCode", 0),
        }
    return None


def _kind(pod: Pod, name: str) -> str:
    volume = next(one for one in pod.spec.volumes if one.name == name)
    if volume.nfs is not None:
        return "NFS"
    if volume.files is not None:
        return "ConfigFile"
    return "EmptyDir" if volume.empty_dir is not None else "HostPath"


def _volume(pod: Pod) -> Document:
    found: dict[str, list[Document]] = {"nfs": [], "emptyDir": [], "configFile": []}
    for one in pod.spec.volumes:
        if one.nfs is not None:
            share = {"server": one.nfs.server, "path": one.nfs.path, "readOnly": one.nfs.read_only}
            found["nfs"].append({"name": one.name, **share})
        elif one.empty_dir is not None:
            size = one.empty_dir.bytes / GIB
            found["emptyDir"].append({"name": one.name, "medium": one.empty_dir.medium, "sizeLimit": size})
        elif one.files is not None:
            found["configFile"].append(_config(one.name, one.files))
    return found


def _config(name: str, files: Files) -> Document:
    items = [{"path": one.path, "file": one.content} for one in files.items]
    mode = next((one.mode for one in files.items), 0o644)
    return {"name": name, "defaultMode": mode, "configFiles": items}
