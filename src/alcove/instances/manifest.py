"""Kubernetes' Pod manifests, as much of them as Alcove runs. What is not here is refused by its path.

``read`` turns a document (of YAML or JSON) into a frozen ``Pod``; ``msgspec`` says where what is wrong stands, as
``$.spec.containers[0].image``.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from alcove.errors import InvalidRequest
from alcove.instances import quantity
from alcove.instances.tier import BY_HANDLER, PodTier

Quantity = str | int | float

CONTAINERS_LIMIT = 32
VOLUMES_LIMIT = 64
# All files of a pod's volumes together, and the whole of a manifest.
FILES_LIMIT = 1 << 20
MANIFEST_LIMIT = 2 << 20
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
POD_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
IMAGE = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9._/:@]{0,510}")


class Strict(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of all: fields are named as in Kubernetes, others are errors."""


_PORT_NAMES = {"container_port": "containerPort", "host_port": "hostPort", "host_ip": "hostIP"}


def _check(good: object, message: str) -> None:
    if not good:
        raise ValueError(message)


def _path(path: str) -> None:
    parts = PurePosixPath(path)
    _check(parts.is_absolute() and ".." not in parts.parts and "\0" not in path, "must be an absolute path without ..")


class FieldRef(Strict, frozen=True):
    field_path: Literal["metadata.name", "metadata.namespace", "metadata.uid", "status.podIP"]
    api_version: str = "v1"


class ValueFrom(Strict, frozen=True):
    field_ref: FieldRef


class Env(Strict, frozen=True):
    name: str
    value: str = ""
    value_from: ValueFrom | None = None

    def __post_init__(self) -> None:
        _check(_ENV_NAME.fullmatch(self.name), f"{self.name[:40]!r} is no name of a variable")
        _check("\0" not in self.value, "a value has no NUL")


class Port(
    Strict, frozen=True, rename={"container_port": "containerPort", "host_port": "hostPort", "host_ip": "hostIP"}
):
    container_port: int
    host_port: int = 0
    host_ip: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    name: str = ""

    def __post_init__(self) -> None:
        _check(0 < self.container_port < 65_536, "containerPort must be 1 to 65535")
        _check(0 <= self.host_port < 65_536, "hostPort must be 1 to 65535")


class Resources(Strict, frozen=True):
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}

    def __post_init__(self) -> None:
        for name, value in (*self.limits.items(), *self.requests.items()):
            _check(name in ("cpu", "memory", "ephemeral-storage"), f"{name[:40]!r} is not offered")
            quantity.parse(value)

    @property
    def cpus(self) -> float:
        """Of the limit; 0 is none."""
        return float(quantity.parse(self.limits.get("cpu", 0)))

    @property
    def cpu_request(self) -> float:
        return float(quantity.parse(self.requests.get("cpu", self.limits.get("cpu", 0))))

    @property
    def memory(self) -> int:
        """Bytes of the limit; 0 is none."""
        return quantity.whole(self.limits.get("memory", 0))

    @property
    def disk(self) -> int:
        """Bytes of the limit of what is written beside the volumes; 0 is none."""
        return quantity.whole(self.limits.get("ephemeral-storage", 0))


class VolumeMount(Strict, frozen=True):
    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""

    def __post_init__(self) -> None:
        _path(self.mount_path)
        _check(self.mount_path.strip("/"), "mountPath must not be /")
        if self.sub_path:
            _path(f"/{self.sub_path}")


class HttpHeader(Strict, frozen=True):
    name: str
    value: str


class HttpGet(Strict, frozen=True):
    port: int | str
    path: str = "/"
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    host: Literal[""] = ""
    http_headers: list[HttpHeader] = []


class TcpSocket(Strict, frozen=True):
    port: int | str
    host: Literal[""] = ""


class Exec(Strict, frozen=True):
    command: list[str]

    def __post_init__(self) -> None:
        _check(self.command, "command must not be empty")


class Grpc(Strict, frozen=True):
    """gRPC's health protocol."""

    port: int
    service: str = ""

    def __post_init__(self) -> None:
        _check(0 < self.port < 65_536, "port must be 1 to 65535")


class Probe(Strict, frozen=True):
    """One of ``exec``, ``httpGet``, ``tcpSocket`` and ``grpc``; a host of another machine's is not asked."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    # What a container gets to end in that this probe ends; None: what the pod says.
    termination_grace_period_seconds: int | None = None

    def __post_init__(self) -> None:
        kinds = [one for one in (self.exec, self.http_get, self.tcp_socket, self.grpc) if one is not None]
        _check(len(kinds) == 1, "a probe is one of exec, httpGet, tcpSocket and grpc")
        _check(self.initial_delay_seconds >= 0, "initialDelaySeconds must not be negative")
        numbers = (self.period_seconds, self.timeout_seconds, self.success_threshold, self.failure_threshold)
        _check(min(numbers) > 0, "a probe's numbers must be positive")
        _check(max(*numbers, self.initial_delay_seconds) <= 86_400, "a probe's numbers must be at most 86400")
        grace_s = self.termination_grace_period_seconds
        _check(grace_s is None or 0 < grace_s <= 3600, "terminationGracePeriodSeconds must be 1 to 3600")


class Capabilities(Strict, frozen=True):
    add: list[str] = []
    drop: list[str] = []


class SeccompProfile(Strict, frozen=True):
    type: Literal["RuntimeDefault", "Unconfined"]


class SecurityContext(Strict, frozen=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool = True
    privileged: bool = False
    capabilities: Capabilities = Capabilities()
    seccomp_profile: SeccompProfile | None = None


class PodSecurityContext(Strict, frozen=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[int] = []
    fs_group: int | None = None
    seccomp_profile: SeccompProfile | None = None


class Container(Strict, frozen=True):
    name: str
    image: str
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[Env] = []
    ports: list[Port] = []
    resources: Resources = Resources()
    volume_mounts: list[VolumeMount] = []
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    security_context: SecurityContext = SecurityContext()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False

    def __post_init__(self) -> None:
        _check(NAME.fullmatch(self.name), f"{self.name[:80]!r} is no name of a container")
        _check(IMAGE.fullmatch(self.image), f"{self.image[:80]!r} is no name of an image")
        for probe in (self.liveness_probe, self.startup_probe):
            _check(probe is None or probe.success_threshold == 1, "successThreshold must be 1, but for readiness")

    def port(self, port: int | str) -> int:
        """Return the number of a port that may be given by its name. Raises ``ValueError``."""
        if isinstance(port, int):
            return port
        named = next((one.container_port for one in self.ports if one.name == port), 0)
        _check(named or port.isdecimal(), f"the container {self.name} has no port {port[:40]!r}")
        return named or int(port)


class EmptyDir(Strict, frozen=True):
    medium: Literal["", "Memory"] = ""
    size_limit: Quantity = ""

    def __post_init__(self) -> None:
        if self.size_limit != "":
            quantity.parse(self.size_limit)

    @property
    def bytes(self) -> int:
        """0: no limit of its own."""
        return quantity.whole(self.size_limit) if self.size_limit != "" else 0


class File(Strict, frozen=True):
    path: str
    content: str = ""
    mode: int = 0o644

    def __post_init__(self) -> None:
        _path(f"/{self.path}")
        _check(self.path.strip("/"), "a file needs a path")
        _check(0 <= self.mode <= 0o777, "mode must be 0 to 511 (0777)")


class Files(Strict, frozen=True):
    """Alcove's own kind of volume: small files that are in the manifest. ``alcove apply`` makes ConfigMaps into it."""

    items: list[File]


class HostPath(Strict, frozen=True):
    path: str
    type: Literal["", "Directory", "DirectoryOrCreate", "File"] = ""

    def __post_init__(self) -> None:
        _path(self.path)


class Nfs(Strict, frozen=True):
    server: str
    path: str
    read_only: bool = False

    def __post_init__(self) -> None:
        _check(re.fullmatch(r"[a-zA-Z0-9][-a-zA-Z0-9.:]{0,252}", self.server), "server must be a name or an address")
        _path(self.path)


class Volume(Strict, frozen=True):
    name: str
    empty_dir: EmptyDir | None = None
    files: Files | None = None
    host_path: HostPath | None = None
    nfs: Nfs | None = None

    def __post_init__(self) -> None:
        _check(NAME.fullmatch(self.name), f"{self.name[:80]!r} is no name of a volume")
        kinds = [one for one in (self.empty_dir, self.files, self.host_path, self.nfs) if one is not None]
        _check(len(kinds) == 1, "a volume is one of emptyDir, files, hostPath and nfs")


class DnsOption(Strict, frozen=True):
    name: str
    value: str = ""


class DnsConfig(Strict, frozen=True):
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[DnsOption] = []


class Spec(Strict, frozen=True):
    containers: list[Container]
    init_containers: list[Container] = []
    volumes: list[Volume] = []
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    runtime_class_name: str = ""
    hostname: str = ""
    dns_policy: Literal["Default", "ClusterFirst", "None"] = "Default"
    dns_config: DnsConfig = DnsConfig()
    host_network: bool = False
    share_process_namespace: bool = False
    security_context: PodSecurityContext = PodSecurityContext()
    automount_service_account_token: Literal[False] = False
    enable_service_links: bool = False

    def __post_init__(self) -> None:
        every = [*self.init_containers, *self.containers]
        _check(self.containers, "containers must not be empty")
        _check(len(every) <= CONTAINERS_LIMIT, f"a pod has at most {CONTAINERS_LIMIT} containers")
        _check(len(self.volumes) <= VOLUMES_LIMIT, f"a pod has at most {VOLUMES_LIMIT} volumes")
        _check(len({one.name for one in every}) == len(every), "two containers have the same name")
        names = {one.name for one in self.volumes}
        _check(len(names) == len(self.volumes), "two volumes have the same name")
        for one in every:
            self._check_container(one, names)
        _check(not self.host_network, "hostNetwork is not offered: a pod has a network of its own")
        _check(not self.hostname or NAME.fullmatch(self.hostname), "hostname must be one label")
        known = ", ".join(BY_HANDLER)
        _check(self.runtime_class_name in ("", *BY_HANDLER), f"runtimeClassName must be one of {known}")
        _check(0 <= self.termination_grace_period_seconds <= 3600, "terminationGracePeriodSeconds must be 0 to 3600")

    def _check_container(self, one: Container, volumes: set[str]) -> None:
        for mount in one.volume_mounts:
            _check(mount.name in volumes, f"the container {one.name} mounts {mount.name[:40]!r}, which is no volume")
        targets = [str(PurePosixPath(mount.mount_path)) for mount in one.volume_mounts]
        _check(len(set(targets)) == len(targets), f"the container {one.name} mounts two volumes at one path")
        for probe in (one.liveness_probe, one.readiness_probe, one.startup_probe):
            for asked in () if probe is None else (probe.http_get, probe.tcp_socket):
                if asked is not None:
                    one.port(asked.port)

    @property
    def isolation(self) -> PodTier | None:
        return BY_HANDLER.get(self.runtime_class_name)


class Metadata(Strict, frozen=True):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def __post_init__(self) -> None:
        _check(not self.name or POD_NAME.fullmatch(self.name), f"{self.name[:80]!r} is no name of a pod")
        begin = self.generate_name
        _check(not begin or POD_NAME.fullmatch(f"{begin}{'0' * 8}"), f"{begin[:80]!r} begins no name of a pod")
        every = (*self.labels.items(), *self.annotations.items())
        _check(sum(len(key) + len(value) for key, value in every) <= 256 << 10, "labels and annotations are too long")


class Pod(Strict, frozen=True):
    """A pod as it is wanted."""

    spec: Spec
    metadata: Metadata = Metadata()
    api_version: Literal["v1"] = "v1"
    kind: Literal["Pod"] = "Pod"

    def __post_init__(self) -> None:
        files = [one.files for one in self.spec.volumes if one.files is not None]
        size = sum(len(item.content) + len(item.path) for one in files for item in one.items)
        _check(size <= FILES_LIMIT, f"the files of a pod's volumes may have {FILES_LIMIT} bytes together")


def read(document: Any) -> Pod:
    """Return the pod of a document. Raises ``InvalidRequest`` that names the place of what is wrong."""
    if isinstance(document, dict):
        # What Kubernetes itself says of a pod is no part of what is wanted.
        document = {key: value for key, value in document.items() if key != "status"}
    try:
        return msgspec.convert(document, Pod)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"The manifest is not accepted: {error}", hint="the architecture page lists the fields of a pod"
        ) from None


def dump(pod: Pod) -> str:
    return msgspec.json.encode(pod).decode()


def load(text: str) -> Pod:
    """Return what ``dump`` wrote."""
    return msgspec.json.decode(text, type=Pod)
