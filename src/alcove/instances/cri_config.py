"""From a pod's manifest to what CRI is asked for: the configurations of its sandbox and its containers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alcove.errors import InvalidRequest
from alcove.instances import cri_tables, volumes
from alcove.instances.manifest import Container, Pod, SeccompProfile, VolumeMount
from alcove.instances.place import Place, digest, relative_log
from alcove.instances.tier import PodTier

Value = dict[str, Any]

# Kubernetes' own labels: tools that look at a node's containers know them.
UID, POD, NAMESPACE = "io.kubernetes.pod.uid", "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"
CONTAINER = "io.kubernetes.container.name"
# Whose instance a pod is: several may use one containerd.
INSTANCE = "io.alcove.instance"
KERNEL = "io.alcove.kernel"
# Annotations of the manifest that the runtime is told; all others of ours are ours to say.
_PASSED = (KERNEL, "io.alcove.network-model")
_PERIOD_US = 100_000
_LEAST_SHARES = 2
# What the containers of a VM have beside their own memory, for its kernel and agent.
_GUEST_MIB = 64
# More than any disk has.
_MOST_DISK = 1 << 49


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What names a pod to the runtime."""

    uid: str
    tenant: str
    name: str
    instance: str

    def labels(self) -> dict[str, str]:
        return {UID: self.uid, POD: self.name, NAMESPACE: self.tenant, INSTANCE: self.instance}


def sandbox(
    pod: Pod, identity: Identity, place: Place, isolation: PodTier, attempt: int, *, dns: Sequence[str] = ()
) -> Value:
    """Return the PodSandboxConfig of the sandbox with this number."""
    spec = pod.spec
    every = [*spec.init_containers, *spec.containers]
    ports = [port for one in every for port in one.ports if port.host_port]
    security = spec.security_context
    return {
        "metadata": {
            "name": identity.name,
            "uid": identity.uid,
            "namespace": identity.tenant,
            "attempt": attempt,
        },
        "hostname": spec.hostname or identity.name.replace(".", "-")[:63].rstrip("-"),
        "log_directory": str(place.logs),
        "dns_config": _dns(pod, dns),
        "port_mappings": [
            {
                "protocol": cri_tables.PROTOCOLS[port.protocol],
                "container_port": port.container_port,
                "host_port": port.host_port,
                "host_ip": port.host_ip,
            }
            for port in ports
        ],
        "labels": identity.labels(),
        "annotations": _annotations(pod, place, isolation),
        "linux": {
            "security_context": {
                "namespace_options": _namespaces(pod),
                "supplemental_groups": _groups(pod),
                "seccomp": _seccomp(security.seccomp_profile),
            },
            "resources": _sum(pod),
        },
    }


def container(pod: Pod, one: Container, identity: Identity, place: Place, attempt: int, *, address: str = "") -> Value:
    """Return the ContainerConfig. Raises ``InvalidRequest`` for what only shows now."""
    return {
        "metadata": {"name": one.name, "attempt": attempt},
        "image": {"image": one.image},
        "command": one.command,
        "args": one.args,
        "working_dir": one.working_dir,
        "envs": _environment(one, identity, address),
        "mounts": [_mount(pod, mount, place) for mount in one.volume_mounts],
        "labels": identity.labels() | {CONTAINER: one.name},
        "annotations": {"io.kubernetes.container.restartCount": str(attempt), **_own_disk(one)},
        "log_path": relative_log(one.name, attempt),
        "stdin": one.stdin,
        "stdin_once": one.stdin_once,
        "tty": one.tty,
        "linux": {"resources": _resources(one), "security_context": _security(pod, one)},
    }


def _dns(pod: Pod, dns: Sequence[str]) -> Value | None:
    """None lets the runtime copy the host's ``resolv.conf``."""
    own = pod.spec.dns_config
    servers = [*([] if pod.spec.dns_policy == "None" else dns), *own.nameservers]
    options = [f"{one.name}:{one.value}" if one.value else one.name for one in own.options]
    if not servers and not own.searches and not options and pod.spec.dns_policy != "None":
        return None
    return {"servers": servers, "searches": own.searches, "options": options}


def _annotations(pod: Pod, place: Place, isolation: PodTier) -> dict[str, str]:
    given = pod.metadata.annotations
    found = {key: value for key, value in given.items() if not key.startswith("io.alcove.") or key in _PASSED}
    if any(one.host_path is not None for one in pod.spec.volumes):
        found["io.alcove.host-paths"] = "true"
    if isolation is PodTier.VM:
        found |= _machine(pod)
        for volume in pod.spec.volumes:
            if volume.empty_dir is not None:
                medium = ",memory" if volume.empty_dir.medium == "Memory" else ""
                key = digest(place.empty_dir(volume.name))
                found[f"io.alcove.empty-dir.{key}"] = f"{volume.empty_dir.bytes}{medium}"
            elif volume.nfs is not None:
                found[f"io.alcove.nfs.{digest(place.nfs(volume.name))}"] = volumes.nfs_source(volume.nfs)
    return found


def _machine(pod: Pod) -> dict[str, str]:
    """The size of the pod's VM, where all of its containers have limits."""
    limits = [one.resources for one in pod.spec.containers]
    found = {}
    if all(one.cpus for one in limits):
        found["io.alcove.cpus"] = f"{sum(one.cpus for one in limits):g}"
    if all(one.memory for one in limits):
        found["io.alcove.memory-mib"] = str((sum(one.memory for one in limits) >> 20) + _GUEST_MIB)
    return found


def _own_disk(one: Container) -> dict[str, str]:
    """What a container may write beside its volumes, in bytes: its VM's kernel holds it to that."""
    return {"io.alcove.disk-bytes": str(min(one.resources.disk, _MOST_DISK))} if one.resources.disk else {}


def _namespaces(pod: Pod) -> Value:
    shared = cri_tables.POD if pod.spec.share_process_namespace else cri_tables.CONTAINER
    return {"network": cri_tables.POD, "pid": shared, "ipc": cri_tables.POD}


def _groups(pod: Pod) -> list[int]:
    security = pod.spec.security_context
    return [*security.supplemental_groups, *([] if security.fs_group is None else [security.fs_group])]


def _seccomp(profile: SeccompProfile | None) -> Value:
    unconfined = profile is not None and profile.type == "Unconfined"
    return {"profile_type": cri_tables.UNCONFINED if unconfined else cri_tables.RUNTIME_DEFAULT}


def _sum(pod: Pod) -> Value:
    cpus = sum(one.resources.cpus for one in pod.spec.containers)
    memory = sum(one.resources.memory for one in pod.spec.containers)
    return _limits(cpus, cpus, memory)


def _resources(one: Container) -> Value:
    return _limits(one.resources.cpus, one.resources.cpu_request, one.resources.memory)


def _limits(cpus: float, request: float, memory: int) -> Value:
    return {
        "cpu_period": _PERIOD_US if cpus else 0,
        "cpu_quota": max(1000, int(cpus * _PERIOD_US)) if cpus else 0,
        "cpu_shares": max(_LEAST_SHARES, int(request * 1024)) if request else 0,
        "memory_limit_in_bytes": memory,
    }


def _environment(one: Container, identity: Identity, address: str) -> list[Value]:
    known = {
        "metadata.name": identity.name,
        "metadata.namespace": identity.tenant,
        "metadata.uid": identity.uid,
        "status.podIP": address,
    }
    found: dict[str, str] = {}
    for row in one.env:
        text = row.value if row.value_from is None else known[row.value_from.field_ref.field_path]
        found[row.name] = _expand(text, found)
    return [{"key": key, "value": value.encode()} for key, value in found.items()]


def _expand(text: str, known: Mapping[str, str]) -> str:
    """Put in variables that were named before, as ``$(NAME)``; ``$$`` is a dollar sign."""
    parts = text.split("$$")
    for name, value in known.items():
        parts = [part.replace(f"$({name})", value) for part in parts]
    return "$".join(parts) if len(parts) > 1 else parts[0]


def _mount(pod: Pod, mount: VolumeMount, place: Place) -> Value:
    volume = next(one for one in pod.spec.volumes if one.name == mount.name)
    base = volumes.source(volume, place)
    path = base / mount.sub_path if mount.sub_path else base
    if mount.sub_path and not _inside(path, base):
        raise InvalidRequest(f"The sub-path {mount.sub_path[:80]!r} leads out of the volume {mount.name}.")
    read_only = mount.read_only or volume.files is not None or (volume.nfs is not None and volume.nfs.read_only)
    return {"container_path": mount.mount_path, "host_path": str(path), "readonly": read_only}


def _inside(path: Path, base: Path) -> bool:
    return path.resolve().is_relative_to(base.resolve())


def _security(pod: Pod, one: Container) -> Value:
    own, general = one.security_context, pod.spec.security_context
    user = general.run_as_user if own.run_as_user is None else own.run_as_user
    group = general.run_as_group if own.run_as_group is None else own.run_as_group
    found: Value = {
        "namespace_options": _namespaces(pod),
        "capabilities": {"add_capabilities": own.capabilities.add, "drop_capabilities": own.capabilities.drop},
        "privileged": own.privileged,
        "readonly_rootfs": own.read_only_root_filesystem,
        "supplemental_groups": _groups(pod),
        "no_new_privs": not own.allow_privilege_escalation,
        "seccomp": _seccomp(own.seccomp_profile or general.seccomp_profile),
        "masked_paths": [] if own.privileged else MASKED,
        "readonly_paths": [] if own.privileged else READ_ONLY,
    }
    if user is not None:
        found["run_as_user"] = {"value": user}
        if group is not None:
            found["run_as_group"] = {"value": group}
    return found


# As Kubernetes' kubelet names them.
MASKED = [
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"),
]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
