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


class _Resources(msgspec.Struct):
    limits: dict[str, Quantity] = {}


class _Container(msgspec.Struct):
    resources: _Resources = msgspec.field(default_factory=_Resources)


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container]
    restart_policy: str = "Always"


class _Metadata(msgspec.Struct):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Outline(msgspec.Struct):
    """What a list says of a manifest."""

    spec: _Spec
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Status(msgspec.Struct, rename={"pod_ip": "podIP", "start_time": "startTime"}):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: str = ""
    start_time: str = ""


_OUTLINE = msgspec.json.Decoder(_Outline)
_STATUS = msgspec.json.Decoder(_Status)


def summary(row: PodRow) -> Document:
    """Return InstanceModel."""
    outline, status = _OUTLINE.decode(row.manifest), _STATUS.decode(row.status)
    note = read_note(outline.metadata.annotations)
    limits = [one.resources.limits for one in outline.spec.containers]
    return {
        "instanceId": row.instance_id,
        "instanceName": note.name or row.name,
        "status": TERMINATING if row.deleted_ms else status.phase,
        "reason": status.reason,
        "message": status.message,
        "zoneName": note.zone,
        "cpuType": "",
        "gpuType": "",
        "cpu": sum(_cores(one) for one in limits),
        "memory": sum(_gib(one) for one in limits),
        "bandwidthInMbps": 0,
        "internalIp": status.pod_ip,
        "publicIp": "",
        "createTime": moment(row.created_ms),
        "updateTime": status.start_time or moment(row.created_ms),
        "deleteTime": moment(row.deleted_ms) if row.deleted_ms else None,
        "restartPolicy": outline.spec.restart_policy,
        "tags": [{"tagKey": key, "tagValue": value} for key, value in outline.metadata.labels.items()],
    }


def detail(one: Instance, events: Sequence[PodEventRow]) -> Document:
    """Return InstanceDetailModel, and what Kubernetes would say beyond it."""
    note = read_note(one.pod.metadata.annotations)
    told = {row["name"]: row for row in one.status.get("containerStatuses", ())}
    told |= {row["name"]: row for row in one.status.get("initContainerStatuses", ())}
    spec = one.pod.spec
    return {
        **summary(one.row),
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
