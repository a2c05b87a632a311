"""What clients of BCI send, in their words. An unknown field is refused: what it asks for would not be there.

Clients cannot always leave a field out: null, "" and an empty list say nothing, as in Baidu's own examples.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from alcove.api.body import read_object
from alcove.errors import InvalidRequest
from alcove.gateway.message import Request

T = TypeVar("T", bound=msgspec.Struct)


class Fields(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Base of all."""


class Tag(Fields, frozen=True):
    tag_key: str
    tag_value: str | None = None


class RegistryCredential(Fields, frozen=True):
    server: str
    user_name: str | None = None
    password: str | None = None


class Port(Fields, frozen=True):
    port: int
    name: str | None = None
    protocol: str | None = None


class Environment(Fields, frozen=True):
    key: str
    value: str | None = None


class VolumeMount(Fields, frozen=True):
    name: str
    mount_path: str
    type: str | None = None
    read_only: bool | None = None


class HttpHeader(Fields, frozen=True):
    name: str
    value: str | None = None


class HttpGet(Fields, frozen=True):
    """Go's client has one header where the others have a list."""

    port: int
    path: str | None = None
    scheme: str | None = None
    host: str | None = None
    http_headers: list[HttpHeader] | HttpHeader | None = None


class TcpSocket(Fields, frozen=True):
    port: int
    host: str | None = None


class Exec(Fields, frozen=True):
    command: list[str]


class Grpc(msgspec.Struct, frozen=True):
    """Go's client misspells ``service``."""

    port: int
    service: str | None = None
    Service: str | None = None


class Probe(Fields, frozen=True):
    initial_delay_seconds: int | None = None
    timeout_seconds: int | None = None
    period_seconds: int | None = None
    success_threshold: int | None = None
    failure_threshold: int | None = None
    termination_grace_period_seconds: int | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    grpc: Grpc | None = None


class Capabilities(Fields, frozen=True):
    add: list[str] | None = None
    drop: list[str] | None = None


class SecurityContext(Fields, frozen=True):
    capabilities: Capabilities | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None


class Container(Fields, frozen=True):
    """``cpu`` in cores, ``memory`` in GiB."""

    name: str
    image: str
    memory: float | None = None
    cpu: float | None = None
    gpu: float | None = None
    working_dir: str | None = None
    image_pull_policy: str | None = None
    commands: list[str] | None = None
    args: list[str] | None = None
    volume_mounts: list[VolumeMount] | None = None
    ports: list[Port] | None = None
    environment_vars: list[Environment] | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    stdin: bool | None = None
    stdin_once: bool | None = None
    tty: bool | None = None
    security_context: SecurityContext | None = None


class Nfs(Fields, frozen=True):
    name: str
    server: str
    path: str
    read_only: bool | None = None


class EmptyDir(Fields, frozen=True):
    """``size_limit`` in GiB."""

    name: str
    medium: str | None = None
    size_limit: float | None = None


class ConfigFileDetail(Fields, frozen=True):
    """``file`` is the content, as it is: so does the Go client's own test."""

    path: str
    file: str | None = None


class ConfigFile(Fields, frozen=True):
    name: str
    default_mode: int | None = None
    config_files: list[ConfigFileDetail] | None = None


class Volume(Fields, frozen=True):
    nfs: list[Nfs] | None = None
    empty_dir: list[EmptyDir] | None = None
    config_file: list[ConfigFile] | None = None


class CreateInstance(Fields, frozen=True):
    """``replicas`` is ours: so many instances of the same, which ``PUT /alcove/v1/pods/{name}/replicas`` changes."""

    name: str
    containers: list[Container]
    security_group_ids: list[str] | None = None
    subnet_ids: list[str] | None = None
    volume: Volume | None = None
    zone_name: str | None = None
    restart_policy: str | None = None
    eip_ip: str | None = None
    auto_create_eip: bool | None = None
    eip_name: str | None = None
    eip_route_type: str | None = None
    eip_bandwidth_in_mbps: int | None = None
    eip_billing_method: str | None = None
    gpu_type: str | None = None
    termination_grace_period_seconds: int | None = None
    host_name: str | None = None
    tags: list[Tag] | None = None
    image_registry_credentials: list[RegistryCredential] | None = None
    init_containers: list[Container] | None = None
    client_token: str | None = None
    replicas: int | None = None


class OriginImage(Fields, frozen=True):
    origin_image_address: str
    origin_image_version: str | None = None


class CreateImageCache(Fields, frozen=True):
    image_cache_name: str
    origin_images: list[OriginImage]
    subnet_id: str | None = None
    security_group_id: str | None = None
    zone_name: str | None = None
    temporary_storage_size: int | None = None
    need_eip: bool | None = None
    eip_ip: str | None = None
    auto_match_image_cache: bool | None = None
    image_registry_secrets: list[RegistryCredential] | None = None


class BatchDelete(Fields, frozen=True):
    instance_ids: list[str]
    related_release_flag: bool | None = None


class BatchDeleteCaches(Fields, frozen=True):
    image_cache_ids: list[str]


def read(request: Request, kind: type[T]) -> T:
    """Return the body. Raises ``InvalidRequest`` that names the place of what is wrong."""
    return convert(read_object(request), kind)


def convert(document: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request is not accepted: {error}") from None
