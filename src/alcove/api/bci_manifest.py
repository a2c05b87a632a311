"""From a request of BCI to the manifest of a pod. Pure.

What only has a meaning in Baidu's cloud (zone, subnets, security groups) is kept in an annotation and told again. What
would be missed where it is not there (public addresses, GPUs) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from alcove.api import bci_request as bci
from alcove.errors import InvalidRequest
from alcove.instances import manifest
from alcove.instances.manifest import Pod
from alcove.instances.pull_secrets import PullSecret

NOTE = "io.alcove.bci"
GIB = 1 << 30
_NAME_LIMITS = (2, 252)
_POLICIES = ("Always", "OnFailure", "Never")
_KINDS = {"nfs": "NFS", "emptyDir": "EmptyDir", "configFile": "ConfigFile"}
Document = dict[str, Any]


class Note(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is told as it was sent, and does nothing here."""

    name: str = ""
    zone: str = ""
    subnets: list[str] = []
    groups: list[str] = []


_NOTE = msgspec.json.Decoder(Note)


def read_note(annotations: dict[str, str]) -> Note:
    if NOTE not in annotations:
        return Note()
    try:
        return _NOTE.decode(annotations[NOTE])
    except msgspec.DecodeError:
        # A manifest that did not come by this face may say anything there.
        return Note()


def to_pod(asked: bci.CreateInstance) -> Pod:
    """Return the manifest. Raises ``InvalidRequest``."""
    _refuse(asked)
    low, high = _NAME_LIMITS
    if not low <= len(asked.name) <= high:
        raise InvalidRequest(f"'name' must have {low} to {high} characters.")
    note = Note(asked.name, asked.zone_name or "", asked.subnet_ids or [], asked.security_group_ids or [])
    volumes = list(_volumes(asked.volume or bci.Volume()))
    kinds = {one["name"]: kind for kind, one in volumes}
    spec: Document = {
        "containers": [_container(one, kinds) for one in asked.containers],
        "initContainers": [_container(one, kinds) for one in asked.init_containers or []],
        "volumes": [one for _, one in volumes],
        "restartPolicy": _one_of("restartPolicy", asked.restart_policy or "Always", _POLICIES),
        "hostname": asked.host_name or "",
    }
    if asked.termination_grace_period_seconds is not None:
        spec["terminationGracePeriodSeconds"] = asked.termination_grace_period_seconds
    annotations = {NOTE: msgspec.json.encode(note).decode()}
    metadata = {"name": asked.name.lower(), "labels": _labels(asked.tags or []), "annotations": annotations}
    return manifest.read({"metadata": metadata, "spec": spec})


def secrets(found: list[bci.RegistryCredential] | None) -> tuple[PullSecret, ...]:
    return tuple(PullSecret(one.server, one.user_name or "", one.password or "") for one in found or [] if one.server)


def _refuse(asked: bci.CreateInstance) -> None:
    if asked.eip_ip or asked.auto_create_eip:
        raise InvalidRequest(
            "Public addresses (eipIp, autoCreateEip) are not offered.", hint="the operator publishes ports of the host"
        )
    gpus = any(one.gpu for one in [*asked.containers, *(asked.init_containers or [])])
    if asked.gpu_type or gpus:
        raise InvalidRequest("GPUs (gpuType, gpu) are not offered.")


def _labels(tags: list[bci.Tag]) -> dict[str, str]:
    found = {one.tag_key: one.tag_value or "" for one in tags}
    if len(found) < len(tags):
        raise InvalidRequest("Two tags have the same tagKey.")
    return found


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InvalidRequest(f"'{name}' must be one of {', '.join(allowed)}.")
    return value


def _container(one: bci.Container, kinds: dict[str, str]) -> Document:
    limits: Document = {}
    if one.cpu:
        limits["cpu"] = _amount("cpu", one.cpu, 1000) / 1000
    if one.memory:
        limits["memory"] = _amount("memory", one.memory, GIB)
    found: Document = {
        "name": one.name,
        "image": one.image,
        "imagePullPolicy": one.image_pull_policy or "",
        "command": one.commands or [],
        "args": one.args or [],
        "workingDir": one.working_dir or "",
        "env": [{"name": row.key, "value": row.value or ""} for row in one.environment_vars or []],
        "ports": [_port(row) for row in one.ports or []],
        "resources": {"limits": limits} if limits else {},
        "volumeMounts": [_mount(row, kinds) for row in one.volume_mounts or []],
        "stdin": bool(one.stdin),
        "stdinOnce": bool(one.stdin_once),
        "tty": bool(one.tty),
        "securityContext": _security(one.security_context or bci.SecurityContext()),
    }
    probes = {
        "livenessProbe": one.liveness_probe,
        "readinessProbe": one.readiness_probe,
        "startupProbe": one.startup_probe,
    }
    return found | {name: _probe(probe) for name, probe in probes.items() if probe is not None}


def _amount(name: str, value: float, unit: int) -> int:
    """Return a number of cores or GiB in whole parts of it. Raises ``InvalidRequest`` for what is no amount."""
    if not (math.isfinite(value) and 0 < value <= 1 << 20):
        raise InvalidRequest(f"'{name}' must be a positive number.")
    return max(1, round(value * unit))


def _port(row: bci.Port) -> Document:
    return {"containerPort": row.port, "name": row.name or "", "protocol": (row.protocol or "TCP").upper()}


def _mount(row: bci.VolumeMount, kinds: dict[str, str]) -> Document:
    kind = kinds.get(row.name, "")
    if row.type and kind and row.type.lower() != kind.lower():
        raise InvalidRequest(f"The volume {row.name[:80]} is of type {kind}, not {row.type[:40]}.")
    return {"name": row.name, "mountPath": row.mount_path, "readOnly": bool(row.read_only)}


def _security(given: bci.SecurityContext) -> Document:
    found: Document = {}
    for name, value in (
        ("runAsUser", given.run_as_user),
        ("runAsGroup", given.run_as_group),
        ("runAsNonRoot", given.run_as_non_root),
        ("readOnlyRootFilesystem", given.read_only_root_filesystem),
    ):
        if value is not None:
            found[name] = value
    if given.capabilities is not None:
        found["capabilities"] = {"add": given.capabilities.add or [], "drop": given.capabilities.drop or []}
    return found


def _probe(given: bci.Probe) -> Document:
    numbers = {
        "initialDelaySeconds": given.initial_delay_seconds,
        "timeoutSeconds": given.timeout_seconds,
        "periodSeconds": given.period_seconds,
        "successThreshold": given.success_threshold,
        "failureThreshold": given.failure_threshold,
        "terminationGracePeriodSeconds": given.termination_grace_period_seconds,
    }
    found: Document = {name: value for name, value in numbers.items() if value}
    if given.exec is not None:
        found["exec"] = {"command": given.exec.command}
    if given.tcp_socket is not None:
        found["tcpSocket"] = {"port": given.tcp_socket.port, "host": given.tcp_socket.host or ""}
    if given.grpc is not None:
        found["grpc"] = {"port": given.grpc.port, "service": given.grpc.service or given.grpc.Service or ""}
    if given.http_get is not None:
        found["httpGet"] = _http_get(given.http_get)
    return found


def _http_get(given: bci.HttpGet) -> Document:
    headers = given.http_headers or []
    if isinstance(headers, bci.HttpHeader):
        headers = [headers]
    return {
        "port": given.port,
        "path": given.path or "/",
        "scheme": (given.scheme or "HTTP").upper(),
        "host": given.host or "",
        "httpHeaders": [{"name": one.name, "value": one.value or ""} for one in headers],
    }


def _volumes(given: bci.Volume) -> Iterator[tuple[str, Document]]:
    """Yield each volume's kind and what the manifest says of it."""
    for nfs in given.nfs or []:
        share = {"server": nfs.server, "path": nfs.path, "readOnly": bool(nfs.read_only)}
        yield _KINDS["nfs"], {"name": nfs.name, "nfs": share}
    for empty in given.empty_dir or []:
        medium = _one_of("medium", empty.medium or "", ("", "Memory"))
        directory: Document = {"medium": medium}
        if empty.size_limit:
            directory["sizeLimit"] = _amount("sizeLimit", empty.size_limit, GIB)
        yield _KINDS["emptyDir"], {"name": empty.name, "emptyDir": directory}
    for config in given.config_file or []:
        yield _KINDS["configFile"], {"name": config.name, "files": {"items": list(_files(config))}}


def _files(config: bci.ConfigFile) -> Iterator[Document]:
    for one in config.config_files or []:
        item: Document = {"path": one.path, "content": one.file or ""}
        yield item if config.default_mode is None else item | {"mode": config.default_mode}
