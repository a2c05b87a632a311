"""The OCI configuration: what a container may not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alcove.sandbox.oci import DENIED, Container, oci_config, seccomp_profile
from alcove.sandbox.protocol import Runtime

CONTAINER = Container(
    root=Path("/state/run/root"),
    var=Path("/state/sandboxes/s-1/var"),
    run=Path("/state/sandboxes/s-1/run"),
    hostname="alcove-1",
    cgroup_path="/alcove-tag/s-1",
    network_namespace=Path("/run/netns/alcove-tag-t2"),
)


@pytest.fixture
def config() -> dict[str, Any]:
    return oci_config(CONTAINER, Runtime.PYTHON, seccomp=True)


def test_it_is_json_and_the_same_each_time(config: dict[str, Any]) -> None:
    assert json.loads(json.dumps(config)) == oci_config(CONTAINER, Runtime.PYTHON, seccomp=True)


def test_process_is_unprivileged(config: dict[str, Any]) -> None:
    process = config["process"]
    assert process["user"] == {"uid": 1000, "gid": 1000}
    assert process["noNewPrivileges"] is True
    assert len(process["capabilities"]) == 5
    assert not any(process["capabilities"].values())
    assert process["terminal"] is False


@pytest.mark.parametrize("runtime", Runtime)
def test_starts_the_images_launcher(runtime: Runtime) -> None:
    process = oci_config(CONTAINER, runtime, seccomp=False)["process"]
    assert process["args"][-1] == str(runtime)
    assert "/opt/alcove/runtime" in process["args"][2]


def test_nothing_but_tmp_and_shm_is_writable(config: dict[str, Any]) -> None:
    assert config["root"] == {"path": "/state/run/root", "readonly": True}
    writable = {
        mount["destination"] for mount in config["mounts"] if mount["type"] != "proc" and "ro" not in mount["options"]
    }
    # /dev belongs to root and is 64 KiB.
    assert writable == {"/tmp", "/dev", "/dev/shm"}
    assert all(
        any(option.startswith("size=") for option in mount["options"])
        for mount in config["mounts"]
        if mount["type"] == "tmpfs"
    )
    assert all("nosuid" in mount["options"] for mount in config["mounts"])


def test_code_mounted_later_reaches_the_container(config: dict[str, Any]) -> None:
    var = next(mount for mount in config["mounts"] if mount["destination"] == "/var")
    assert {"rbind", "rslave"} <= set(var["options"])


def test_every_namespace_is_its_own(config: dict[str, Any]) -> None:
    namespaces = {space["type"]: space.get("path") for space in config["linux"]["namespaces"]}
    assert set(namespaces) == {"pid", "ipc", "uts", "mount", "network"}
    assert namespaces["network"] == "/run/netns/alcove-tag-t2"


def test_without_a_network_the_namespace_is_still_its_own() -> None:
    lonely = Container(
        **{name: getattr(CONTAINER, name) for name in ("root", "var", "run", "hostname", "cgroup_path")},
        network_namespace=None,
    )
    assert {"type": "network"} in oci_config(lonely, Runtime.NODE, seccomp=True)["linux"]["namespaces"]


def test_devices_are_denied_and_the_group_is_ours(config: dict[str, Any]) -> None:
    assert config["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert config["linux"]["cgroupsPath"] == "/alcove-tag/s-1"


def test_proc_is_masked(config: dict[str, Any]) -> None:
    assert {"/proc/kcore", "/proc/keys", "/proc/kallsyms"} <= set(config["linux"]["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(config["linux"]["readonlyPaths"])


def test_seccomp_only_where_the_hosts_kernel_is_called() -> None:
    assert "seccomp" not in oci_config(CONTAINER, Runtime.PYTHON, seccomp=False)["linux"]


def test_seccomp_refuses_the_dangerous() -> None:
    profile = seccomp_profile()
    assert profile["architectures"] == ["SCMP_ARCH_X86_64"]
    assert {"mount", "bpf", "ptrace", "unshare", "setns", "keyctl", "io_uring_setup", "userfaultfd"} <= set(DENIED)
    rules = {name: rule for rule in profile["syscalls"] for name in rule["names"] if "args" not in rule}
    assert rules["mount"]["action"] == "SCMP_ACT_ERRNO"
    # A C library that finds clone3 missing uses clone, whose flags can be filtered.
    assert rules["clone3"]["errnoRet"] == 38


def test_seccomp_refuses_each_new_namespace_and_strange_socket() -> None:
    rules = [(rule["names"][0], rule["args"][0]) for rule in seccomp_profile()["syscalls"] if "args" in rule]
    flags = [argument["valueTwo"] for name, argument in rules if name == "clone"]
    assert sum(flags) == 0x7E020000
    assert all(argument["value"] == argument["valueTwo"] for name, argument in rules if name == "clone")
    families = {argument["value"] for name, argument in rules if name == "socket"}
    assert {17, 38, 40} <= families  # PACKET, ALG, VSOCK
    assert not families & {1, 2, 10, 16}
