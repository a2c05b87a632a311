"""The messages of CRI v1 (``k8s.io/cri-api``, ``runtime/v1/api.proto``) as tables of fields.

A line is a message: its name, then for each field number, name and type; ``*`` is repeated, ``map`` one of texts. Only
what Alcove sends and reads is here; what else comes is skipped.
"""

from __future__ import annotations

from typing import cast

from alcove.wire import protobuf
from alcove.wire.protobuf import Field, Message, Scalar, map_field

# PodSandboxState, ContainerState
SANDBOX_READY, SANDBOX_NOT_READY = range(2)
CREATED, RUNNING, EXITED, UNKNOWN = range(4)
# NamespaceMode
POD, CONTAINER, NODE = range(3)
# Protocol
PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
# SecurityProfile.ProfileType
RUNTIME_DEFAULT, UNCONFINED = range(2)

_TEXT = """
VersionRequest: 1 version string
VersionResponse: 1 version string, 2 runtime_name string, 3 runtime_version string, 4 runtime_api_version string
PodSandboxMetadata: 1 name string, 2 uid string, 3 namespace string, 4 attempt uint32
DNSConfig: 1 servers string*, 2 searches string*, 3 options string*
PortMapping: 1 protocol enum, 2 container_port int32, 3 host_port int32, 4 host_ip string
NamespaceOption: 1 network enum, 2 pid enum, 3 ipc enum
Int64Value: 1 value int64
SecurityProfile: 1 profile_type enum, 2 localhost_ref string
LinuxSandboxSecurityContext: 1 namespace_options NamespaceOption, 3 run_as_user Int64Value, 8 run_as_group Int64Value,
  4 readonly_rootfs bool, 5 supplemental_groups int64*, 6 privileged bool, 9 seccomp SecurityProfile
LinuxContainerResources: 1 cpu_period int64, 2 cpu_quota int64, 3 cpu_shares int64, 4 memory_limit_in_bytes int64, 5
  oom_score_adj int64, 6 cpuset_cpus string, 7 cpuset_mems string, 10 memory_swap_limit_in_bytes int64
LinuxPodSandboxConfig: 1 cgroup_parent string, 2 security_context LinuxSandboxSecurityContext, 3 sysctls map, 5
  resources LinuxContainerResources
PodSandboxConfig: 1 metadata PodSandboxMetadata, 2 hostname string, 3 log_directory string, 4 dns_config DNSConfig, 5
  port_mappings PortMapping*, 6 labels map, 7 annotations map, 8 linux LinuxPodSandboxConfig
RunPodSandboxRequest: 1 config PodSandboxConfig, 2 runtime_handler string
RunPodSandboxResponse: 1 pod_sandbox_id string
StopPodSandboxRequest: 1 pod_sandbox_id string
RemovePodSandboxRequest: 1 pod_sandbox_id string
PodSandboxStatusRequest: 1 pod_sandbox_id string, 2 verbose bool
PodIP: 1 ip string
PodSandboxNetworkStatus: 1 ip string, 2 additional_ips PodIP*
Namespace: 2 options NamespaceOption
LinuxPodSandboxStatus: 1 namespaces Namespace
PodSandboxStatus: 1 id string, 2 metadata PodSandboxMetadata, 3 state enum, 4 created_at int64, 5 network
  PodSandboxNetworkStatus, 6 linux LinuxPodSandboxStatus, 7 labels map, 8 annotations map, 9 runtime_handler string
PodSandboxStatusResponse: 1 status PodSandboxStatus, 2 info map, 4 timestamp int64
PodSandboxStateValue: 1 state enum
PodSandboxFilter: 1 id string, 2 state PodSandboxStateValue, 3 label_selector map
ListPodSandboxRequest: 1 filter PodSandboxFilter
PodSandbox: 1 id string, 2 metadata PodSandboxMetadata, 3 state enum, 4 created_at int64, 5 labels map, 6 annotations
  map, 7 runtime_handler string
ListPodSandboxResponse: 1 items PodSandbox*
ContainerMetadata: 1 name string, 2 attempt uint32
ImageSpec: 1 image string, 2 annotations map
KeyValue: 1 key string, 2 value bytes
Mount: 1 container_path string, 2 host_path string, 3 readonly bool, 5 propagation enum
Device: 1 container_path string, 2 host_path string, 3 permissions string
Capability: 1 add_capabilities string*, 2 drop_capabilities string*, 3 add_ambient_capabilities string*
LinuxContainerSecurityContext: 1 capabilities Capability, 2 privileged bool, 3 namespace_options NamespaceOption, 5
  run_as_user Int64Value, 12 run_as_group Int64Value, 6 run_as_username string, 7 readonly_rootfs bool, 8
  supplemental_groups int64*, 11 no_new_privs bool, 13 masked_paths string*, 14 readonly_paths string*, 15 seccomp
  SecurityProfile
LinuxContainerConfig: 1 resources LinuxContainerResources, 2 security_context LinuxContainerSecurityContext
ContainerConfig: 1 metadata ContainerMetadata, 2 image ImageSpec, 3 command string*, 4 args string*, 5 working_dir
  string, 6 envs KeyValue*, 7 mounts Mount*, 8 devices Device*, 9 labels map, 10 annotations map, 11 log_path string,
  12 stdin bool, 13 stdin_once bool, 14 tty bool, 15 linux LinuxContainerConfig
CreateContainerRequest: 1 pod_sandbox_id string, 2 config ContainerConfig, 3 sandbox_config PodSandboxConfig
CreateContainerResponse: 1 container_id string
StartContainerRequest: 1 container_id string
StopContainerRequest: 1 container_id string, 2 timeout int64
RemoveContainerRequest: 1 container_id string
ContainerStateValue: 1 state enum
ContainerFilter: 1 id string, 2 state ContainerStateValue, 3 pod_sandbox_id string, 4 label_selector map
ListContainersRequest: 1 filter ContainerFilter
Container: 1 id string, 2 pod_sandbox_id string, 3 metadata ContainerMetadata, 4 image ImageSpec, 5 image_ref string,
  6 state enum, 7 created_at int64, 8 labels map, 9 annotations map, 10 image_id string
ListContainersResponse: 1 containers Container*
ContainerStatusRequest: 1 container_id string, 2 verbose bool
ContainerResources: 1 linux LinuxContainerResources
ContainerStatus: 1 id string, 2 metadata ContainerMetadata, 3 state enum, 4 created_at int64, 5 started_at int64, 6
  finished_at int64, 7 exit_code int32, 8 image ImageSpec, 9 image_ref string, 10 reason string, 11 message string, 12
  labels map, 13 annotations map, 14 mounts Mount*, 15 log_path string, 16 resources ContainerResources, 17 image_id
  string
ContainerStatusResponse: 1 status ContainerStatus, 2 info map
ReopenContainerLogRequest: 1 container_id string
ExecSyncRequest: 1 container_id string, 2 cmd string*, 3 timeout int64
ExecSyncResponse: 1 stdout bytes, 2 stderr bytes, 3 exit_code int32
ExecRequest: 1 container_id string, 2 cmd string*, 3 tty bool, 4 stdin bool, 5 stdout bool, 6 stderr bool
ExecResponse: 1 url string
AttachRequest: 1 container_id string, 2 stdin bool, 3 tty bool, 4 stdout bool, 5 stderr bool
AttachResponse: 1 url string
PortForwardRequest: 1 pod_sandbox_id string, 2 port int32*
PortForwardResponse: 1 url string
ContainerStatsFilter: 1 id string, 2 pod_sandbox_id string, 3 label_selector map
ListContainerStatsRequest: 1 filter ContainerStatsFilter
ContainerAttributes: 1 id string, 2 metadata ContainerMetadata, 3 labels map, 4 annotations map
UInt64Value: 1 value uint64
CpuUsage: 1 timestamp int64, 2 usage_core_nano_seconds UInt64Value, 3 usage_nano_cores UInt64Value
MemoryUsage: 1 timestamp int64, 2 working_set_bytes UInt64Value, 3 available_bytes UInt64Value, 4 usage_bytes
  UInt64Value, 5 rss_bytes UInt64Value, 6 page_faults UInt64Value, 7 major_page_faults UInt64Value
FilesystemIdentifier: 1 mountpoint string
FilesystemUsage: 1 timestamp int64, 2 fs_id FilesystemIdentifier, 3 used_bytes UInt64Value, 4 inodes_used UInt64Value
ContainerStats: 1 attributes ContainerAttributes, 2 cpu CpuUsage, 3 memory MemoryUsage, 4 writable_layer
  FilesystemUsage
ListContainerStatsResponse: 1 stats ContainerStats*
StatusRequest: 1 verbose bool
RuntimeCondition: 1 type string, 2 status bool, 3 reason string, 4 message string
RuntimeStatus: 1 conditions RuntimeCondition*
StatusResponse: 1 status RuntimeStatus, 2 info map
ImageFilter: 1 image ImageSpec
ListImagesRequest: 1 filter ImageFilter
Image: 1 id string, 2 repo_tags string*, 3 repo_digests string*, 4 size uint64, 5 uid Int64Value, 6 username string
ListImagesResponse: 1 images Image*
ImageStatusRequest: 1 image ImageSpec, 2 verbose bool
ImageStatusResponse: 1 image Image, 2 info map
AuthConfig: 1 username string, 2 password string, 3 auth string, 4 server_address string, 5 identity_token string, 6
  registry_token string
PullImageRequest: 1 image ImageSpec, 2 auth AuthConfig, 3 sandbox_config PodSandboxConfig
PullImageResponse: 1 image_ref string
RemoveImageRequest: 1 image ImageSpec
ImageFsInfoRequest:
ImageFsInfoResponse: 1 image_filesystems FilesystemUsage*, 2 container_filesystems FilesystemUsage*
UpdateContainerResourcesRequest: 1 container_id string, 2 linux LinuxContainerResources, 4 annotations map
"""


def _read(text: str) -> dict[str, Message]:
    """Return the messages by name; one is used below its own line only."""
    found: dict[str, Message] = {}
    for line in text.replace("\n  ", " ").strip().splitlines():
        name, _, rest = line.partition(":")
        rows = [row.split() for row in rest.split(",") if row.strip()]
        found[name] = Message(f"runtime.v1.{name}", *(_field(int(row[0]), row[1], row[2], found) for row in rows))
    return found


def _field(number: int, name: str, kind: str, found: dict[str, Message]) -> Field:
    if kind == "map":
        return map_field(number, name, protobuf.STRING, protobuf.STRING)
    plain = kind.rstrip("*")
    one = found[plain] if plain in found else cast("Scalar", getattr(protobuf, plain.upper()))
    return Field(number, name, one, repeated=kind.endswith("*"))


MESSAGES = _read(_TEXT)
