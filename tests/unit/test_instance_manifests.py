"""Pod manifests: what is read, what is refused by its path, what CRI is told of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.cli.pod_manifests import read_manifests
from alcove.cli.run import manifest as from_command_line
from alcove.errors import InvalidRequest
from alcove.instances import cri_config, manifest, quantity, volumes
from alcove.instances.cri_config import Identity
from alcove.instances.place import Place, digest
from alcove.instances.tier import PodTier
from alcove.shim import spec as shim_spec

IDENTITY = Identity(uid="u-1", tenant="t", name="web", instance="tag")
PLACE = Place(Path("/state/instances"), "u-1")


def pod(container: dict[str, Any] | None = None, **spec: Any) -> manifest.Pod:
    one = {"name": "main", "image": "busybox"} | (container or {})
    return manifest.read({"metadata": {"name": "web"}, "spec": {"containers": [one], **spec}})


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"containers": [{"name": "a", "image": "b", "imagePullPolicies": "x"}]}, "$.spec.containers[0]"),
        ({"containers": [{"name": "A", "image": "b"}]}, "$.spec.containers[0]"),
        ({"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 0}]}]}, "containers[0].ports[0]"),
        ({"containers": [{"name": "a", "image": "b"}], "hostNetwork": True}, "hostNetwork is not offered"),
        ({"containers": [{"name": "a", "image": "b"}], "hostPID": True}, "hostPID"),
        ({"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]}, "the same name"),
        (
            {"containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}]},
            "no volume",
        ),
        ({"containers": [{"name": "a", "image": "b", "livenessProbe": {}}]}, "livenessProbe"),
        ({"containers": []}, "containers must not be empty"),
        ({"containers": [{"name": "a", "image": "b"}], "volumes": [{"name": "../x", "emptyDir": {}}]}, "volumes[0]"),
        ({"containers": [{"name": "a", "image": "b", "resources": {"limits": {"cpu": "1x"}}}]}, "resources"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        manifest.read({"spec": spec})
    assert place in str(refused.value)


def test_a_file_of_a_volume_cannot_lead_out_of_it() -> None:
    volume = {"name": "c", "files": {"items": [{"path": "../../etc/passwd"}]}}
    with pytest.raises(InvalidRequest, match=r"files\.items\[0\]"):
        pod(volumes=[volume])


def test_what_was_written_is_read_again() -> None:
    one = pod({"env": [{"name": "A", "value": "1"}]}, restartPolicy="Never", hostname="h")
    assert manifest.load(manifest.dump(one)) == one


def test_annotations_of_ours_are_ours_to_say() -> None:
    given = {"io.alcove.host-paths": "true", "io.alcove.cpus": "64", "io.alcove.kernel": "rt", "mine": "1"}
    document = {"metadata": {"annotations": given}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    made = cri_config.sandbox(manifest.read(document), IDENTITY, PLACE, PodTier.VM, 0)
    assert made["annotations"] == {"io.alcove.kernel": "rt", "mine": "1"}


def test_the_machine_is_as_large_as_its_containers_together() -> None:
    limits = {"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}
    one = manifest.read(
        {"spec": {"containers": [{"name": "a", "image": "b", **limits}, {"name": "c", "image": "b", **limits}]}}
    )
    made = cri_config.sandbox(one, IDENTITY, PLACE, PodTier.VM, 0)["annotations"]
    assert made == {"io.alcove.cpus": "1", "io.alcove.memory-mib": "192"}


def test_an_empty_dir_is_a_disk_of_its_size_in_a_machine() -> None:
    one = pod(volumes=[{"name": "d", "emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}}])
    made = cri_config.sandbox(one, IDENTITY, PLACE, PodTier.VM, 0)["annotations"]
    assert made == {f"io.alcove.empty-dir.{digest(PLACE.empty_dir('d'))}": "1048576,memory"}
    assert cri_config.sandbox(one, IDENTITY, PLACE, PodTier.PROCESS, 0)["annotations"] == {}


def nfs(name: str, server: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"name": name, "nfs": {"server": server, "path": "/srv", "readOnly": read_only}}


def test_an_nfs_volume_is_the_machines_to_mount(tmp_path: Path) -> None:
    place = Place(tmp_path, "u")
    found = [nfs("kept", "files.example", read_only=True), nfs("v", "fd00::1")]
    one = pod({"volumeMounts": [{"name": "kept", "mountPath": "/data"}]}, volumes=found)
    volumes.make(one, place, PodTier.VM)
    keys = [f"io.alcove.nfs.{digest(place.nfs(name))}" for name in ("kept", "v")]
    told = cri_config.sandbox(one, IDENTITY, place, PodTier.VM, 0)["annotations"]
    assert told == {keys[0]: "ro,files.example:/srv", keys[1]: "rw,[fd00::1]:/srv"}
    (mount,) = cri_config.container(one, one.spec.containers[0], IDENTITY, place, 0)["mounts"]
    assert (mount["host_path"], mount["readonly"]) == (str(place.nfs("kept")), True)
    # The folder only names the volume.
    assert not list(place.nfs("kept").iterdir())


def test_an_nfs_volume_that_cannot_be_is_refused() -> None:
    mount = {"name": "v", "mountPath": "/data"}
    one = pod({"volumeMounts": [mount]}, volumes=[nfs("v", "10.0.0.1")])
    volumes.check(one, PodTier.VM)
    for tier in (PodTier.GVISOR, PodTier.PROCESS):
        with pytest.raises(InvalidRequest, match="machine of the pod's own"):
            volumes.check(one, tier)
    below = pod({"volumeMounts": [mount | {"subPath": "a"}]}, volumes=[nfs("v", "10.0.0.1")])
    with pytest.raises(InvalidRequest, match="sub-paths"):
        volumes.check(below, PodTier.VM)


def test_a_volume_that_could_not_be_mounted_is_named() -> None:
    one = pod(volumes=[nfs("a", "10.0.0.1"), nfs("b", "fd00::1")])
    error = "RunPodSandbox: failed to create shim task: mount_nfs: [fd00::1]:/srv: Connection refused: unknown"
    why = "[fd00::1]:/srv: Connection refused: unknown"
    assert volumes.failed_mount(one, error) == f'MountVolume.SetUp failed for volume "b": {why}'
    assert volumes.failed_mount(one, "RunPodSandbox: no memory for another pod") is None


def test_a_containers_own_disk_is_told(tmp_path: Path) -> None:
    def told(limit: str) -> dict[str, str]:
        one = pod({"resources": {"limits": {"ephemeral-storage": limit}}})
        made = cri_config.container(one, one.spec.containers[0], IDENTITY, Place(tmp_path, "u"), 0)
        return {key: value for key, value in made["annotations"].items() if key.startswith("io.alcove.")}

    assert told("1Gi") == {"io.alcove.disk-bytes": str(1 << 30)}
    assert told("0") == {}
    # More than the shim takes is as much as there is.
    (most,) = told("1Ei").values()
    assert shim_spec.disk_limit({"annotations": {shim_spec.DISK_BYTES: most}}) == 1 << 49


def test_variables_are_put_into_later_ones() -> None:
    rows = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(C) $$(A)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    one = pod({"env": rows})
    made = cri_config.container(one, one.spec.containers[0], IDENTITY, PLACE, 0, address="10.0.0.2")
    assert {row["key"]: row["value"] for row in made["envs"]} == {"A": b"1", "B": b"1$(C) $(A)", "IP": b"10.0.0.2"}


def test_a_sub_path_stays_in_its_volume(tmp_path: Path) -> None:
    place = Place(tmp_path, "u")
    place.empty_dir("d").mkdir(parents=True)
    (place.empty_dir("d") / "out").symlink_to("/etc")
    mount = {"name": "d", "mountPath": "/d", "subPath": "out"}
    one = pod({"volumeMounts": [mount]}, volumes=[{"name": "d", "emptyDir": {}}])
    with pytest.raises(InvalidRequest, match="leads out"):
        cri_config.container(one, one.spec.containers[0], IDENTITY, place, 0)


@given(st.decimals(0, 10**6, places=3), st.sampled_from(["", "m", "k", "Ki", "Mi", "G"]))
def test_quantities_are_exact_and_round_up(number: Any, suffix: str) -> None:
    factor = {"": 1, "m": Fraction(1, 1000), "k": 1000, "Ki": 1024, "Mi": 1 << 20, "G": 10**9}[suffix]
    exact = Fraction(str(number)) * factor
    assert Fraction(quantity.parse(f"{number}{suffix}")) == exact
    assert quantity.whole(f"{number}{suffix}") == -(-exact // 1)


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    try:
        assert 0 <= quantity.parse(text) <= quantity.LIMIT
    except ValueError:
        pass


def test_a_config_map_beside_a_pod_becomes_files() -> None:
    text = b"""
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {a.txt: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /etc/conf}]}]
  volumes: [{name: v, configMap: {name: conf, items: [{key: a.txt, path: b.txt, mode: 256}]}}]
"""
    (document,) = read_manifests(text)
    made = manifest.read(document)
    assert made.spec.volumes[0].files == manifest.Files(items=[manifest.File(path="b.txt", content="hello", mode=256)])


@pytest.mark.parametrize("text", [b"kind: Service", b"[1]", b"{", b""])
def test_files_without_pods_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_manifests(text)


def test_a_command_line_becomes_a_manifest() -> None:
    given_options: dict[str, Any] = {
        "name": "",
        "cpus": 0.5,
        "memory": "64Mi",
        "variables": ("A=1=2",),
        "mounts": ("/etc:/x:ro",),
        "ports": ("127.0.0.1:8080:80/udp",),
        "workdir": "",
        "user": "5:6",
        "entrypoint": "",
        "kernel": "rt",
        "restart": "on-failure",
        "stdin": False,
        "tty": False,
        "command": ("--", "echo", "--", "x"),
    }
    made = manifest.read(from_command_line("busybox", **given_options))
    one = made.spec.containers[0]
    assert one.args == ["echo", "--", "x"]
    assert (one.ports[0].host_ip, one.ports[0].host_port, one.ports[0].protocol) == ("127.0.0.1", 8080, "UDP")
    assert (one.env[0].value, one.security_context.run_as_group, one.volume_mounts[0].read_only) == ("1=2", 6, True)
    assert (made.spec.restart_policy, made.metadata.annotations) == ("OnFailure", {"io.alcove.kernel": "rt"})
