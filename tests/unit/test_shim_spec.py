"""What of containerd's configuration a container in the guest is started with."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.shim import host_files, rootfs
from alcove.shim import spec as oci
from alcove.shim.address import digest
from alcove.shim.spec import CopyIn, Disk, Share, SpecError

KUBELET = "/var/lib/kubelet/pods/u1"


class Facts:
    def __init__(self, **kinds: str) -> None:
        self._kinds = kinds

    def kind(self, path: str) -> str:
        return self._kinds.get(path.rsplit("/", 1)[-1], "folder")

    def capacity(self, path: str) -> int:
        return 64 << 20


def bind(source: str, destination: str = "/data", *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", *options]}


def convert(spec: dict[str, Any], *, facts: Facts | None = None, **annotations: str) -> oci.Plan:
    return oci.convert(spec, container_id="c1", annotations=annotations, facts=facts or Facts())


def with_mount(mount: dict[str, Any], *, facts: Facts | None = None, annotations: dict[str, str] | None = None) -> Any:
    plan = convert({"mounts": [mount]}, facts=facts, **(annotations or {}))
    return plan, plan.spec["mounts"][0]


def test_namespaces_that_the_pod_shares_are_the_guests() -> None:
    kinds = [{"type": "network", "path": "/n"}, {"type": "ipc", "path": "/proc/7/ns/ipc"}, {"type": "uts"}]
    plan = convert({"linux": {"namespaces": [*kinds, {"type": "pid"}, {"type": "mount"}]}})
    assert plan.spec["linux"]["namespaces"] == [{"type": "cgroup"}, {"type": "pid"}, {"type": "mount"}]
    assert plan.pid_mode == "container"


def test_a_configuration_of_a_newer_version_is_one_that_the_guest_knows() -> None:
    assert convert({"ociVersion": "1.3.0"}).spec["ociVersion"] == "1.0.2"


def test_a_shared_pid_namespace_is_the_pods() -> None:
    plan = convert({"linux": {"namespaces": [{"type": "pid", "path": "/proc/7/ns/pid"}]}})
    assert (plan.pid_mode, plan.spec["linux"]["namespaces"]) == ("pod", [{"type": "cgroup"}])


def test_what_is_the_hosts_is_taken_out() -> None:
    process = {"args": ["sh"], "apparmorProfile": "cri", "selinuxLabel": "x", "user": {"uid": 5}}
    linux = {"cgroupsPath": "/k8s", "mountLabel": "x", "resources": {"cpu": {"cpus": "0-63", "shares": 2}}}
    plan = convert({"hostname": "h", "process": process, "root": {"path": "/x", "readonly": True}, "linux": linux})
    assert plan.spec["process"] == {"args": ["sh"], "user": {"uid": 5}}
    assert plan.spec["root"] == {"path": "rootfs", "readonly": True}
    assert plan.spec["linux"] == {"resources": {"cpu": {"shares": 2}}, "namespaces": [{"type": "cgroup"}], "sysctl": {}}
    assert "hostname" not in plan.spec


def test_hooks_are_refused() -> None:
    with pytest.raises(SpecError, match="hooks"):
        convert({"hooks": {"prestart": [{"path": "/bin/sh"}]}})


def test_the_hosts_network_is_refused_and_none_is_possible() -> None:
    with pytest.raises(SpecError, match="hostNetwork"):
        oci.netns({"linux": {"namespaces": [{"type": "pid"}]}})
    assert oci.netns({"linux": {"namespaces": [{"type": "network"}]}}) is None
    assert oci.netns({"linux": {"namespaces": [{"type": "network", "path": "/n"}]}}) == "/n"


def test_settings_of_shared_namespaces_are_the_pods() -> None:
    plan = convert({"linux": {"sysctl": {"net.core.somaxconn": "9", "kernel.domainname": "x"}}})
    assert plan.sysctls == {"net.core.somaxconn": "9"}
    assert plan.spec["linux"]["sysctl"] == {"kernel.domainname": "x"}


def test_the_input_is_not_changed() -> None:
    spec = {"linux": {"namespaces": [{"type": "uts"}]}, "mounts": [bind("/h/etc", "/etc/hosts")]}
    convert(spec)
    assert spec["linux"]["namespaces"] == [{"type": "uts"}]
    assert spec["mounts"][0]["source"] == "/h/etc"


def test_file_systems_of_the_guests_kernel_stay_as_they_are() -> None:
    for mount in ({"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/run", "type": "tmpfs"}):
        assert with_mount(mount)[1] == mount


def test_shared_memory_is_the_guests() -> None:
    plan, mount = with_mount(bind("/run/containerd/sandboxes/p/shm", "/dev/shm"))
    assert mount["type"] == "tmpfs"
    assert not plan.shares


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("/run/sandboxes/p/hosts", "/etc/hosts"),
        (f"{KUBELET}/volumes/kubernetes.io~configmap/conf", "/etc/conf"),
        (f"{KUBELET}/volumes/kubernetes.io~secret/token/key", "/token"),
    ],
)
def test_small_files_are_copied(source: str, destination: str) -> None:
    plan, mount = with_mount(bind(source, destination, "ro"))
    assert plan.copies == [CopyIn(source, "0")]
    assert mount["source"] == "/run/alcove/files/c1/0"
    assert "ro" in mount["options"]


def test_a_termination_log_comes_back() -> None:
    source = f"{KUBELET}/containers/main/1234"
    plan, mount = with_mount(bind(source, "/dev/termination-log"), facts=Facts(**{"1234": "file"}))
    assert plan.termination_log == oci.TerminationLog(mount["source"], source)


def test_an_empty_dir_is_a_disk() -> None:
    plan, mount = with_mount(bind(f"{KUBELET}/volumes/kubernetes.io~empty-dir/cache"))
    assert plan.disks == [Disk("cache", oci.DEFAULT_EMPTY_DIR_BYTES, False)]
    assert mount["source"] == "/run/alcove/disks/cache"


def test_an_empty_dir_in_memory_is_the_guests_memory() -> None:
    source = f"{KUBELET}/volumes/kubernetes.io~empty-dir/cache"
    plan, _ = with_mount(bind(source), facts=Facts(cache="memory"))
    assert plan.disks == [Disk("cache", 64 << 20, True)]


def test_an_empty_dir_of_the_product_has_its_size_by_annotation() -> None:
    name = digest("/x/data")
    plan, mount = with_mount(bind("/x/data"), annotations={oci.EMPTY_DIR + name: "1048576"})
    assert plan.disks == [Disk(name, 1 << 20, False)]
    assert mount["source"] == f"/run/alcove/disks/{name}"
    with pytest.raises(SpecError):
        with_mount(bind("/x/data"), annotations={oci.EMPTY_DIR + name: "1e9,disk"})


def test_a_folder_of_the_host_is_asked_for_as_a_share() -> None:
    plan, _ = with_mount(bind("/srv/data"))
    assert [share.source for share in plan.shares] == ["/srv/data"]
    assert not plan.copies


def test_a_read_only_folder_is_copied_unless_host_paths_are_allowed() -> None:
    assert with_mount(bind("/srv/data", "/data", "ro"))[0].copies == [CopyIn("/srv/data", "0")]
    plan, _ = with_mount(bind("/srv/data", "/data", "ro"), annotations={oci.HOST_PATHS: "true"})
    name = digest("/srv/data:True:False:False")
    assert plan.shares == [Share("/srv/data", True, name, recursive=False, follows=False)]


def test_how_a_folder_is_mounted_is_asked_of_the_host() -> None:
    plan, mount = with_mount(bind("/srv/data", "/data", "rslave"))
    (share,) = plan.shares
    assert (share.read_only, share.recursive, share.follows) == (False, False, True)
    assert "rslave" not in mount["options"]
    annotations = {oci.HOST_PATHS: "true"}
    plan, mount = with_mount(bind("/srv/data", "/data", "rro", "rprivate"), annotations=annotations)
    (share,) = plan.shares
    assert (share.read_only, share.recursive, share.follows) == (True, True, False)
    assert mount["options"] == ["rbind", "ro", "rprivate"]
    # Mounts below are not read-only then, so the host alone holds it.
    plan, mount = with_mount(bind("/srv/data", "/data", "ro"), annotations=annotations)
    assert (plan.shares[0].read_only, plan.shares[0].recursive, mount["options"]) == (True, False, ["rbind"])
    with pytest.raises(SpecError, match="Bidirectional"):
        with_mount(bind("/srv/data", "/data", "rshared"))


def test_nfs_volumes_are_the_guests_to_mount() -> None:
    mount = {"destination": "/data", "type": "nfs", "source": "10.0.0.1:/srv", "options": ["ro", "hard"]}
    plan, given = with_mount(mount)
    (volume,) = plan.nfs
    assert volume[:4] == ("10.0.0.1", "/srv", True, ["hard"])
    assert given == {
        "destination": "/data",
        "type": "bind",
        "source": f"/run/alcove/nfs/{volume.name}",
        "options": ["rbind", "ro"],
    }
    for wrong in ("10.0.0.1", "10.0.0.1:srv", ":/srv", "a b:/srv", "[fe80::1%eth0,x]:/srv", "10.0.0.1,x:/srv"):
        with pytest.raises(SpecError, match="NFS"):
            with_mount({**mount, "source": wrong})


@pytest.mark.parametrize(
    ("value", "volume"),
    [
        ("[fd00::1]:/", ("fd00::1", "/", False)),
        ("rw,files.example:/a,b", ("files.example", "/a,b", False)),
        ("ro,10.0.0.1:/a:/b", ("10.0.0.1", "/a:/b", True)),
    ],
)
def test_nfs_volumes_of_a_pod_are_known_before_its_containers(value: str, volume: tuple[Any, ...]) -> None:
    annotations = {oci.NFS_VOLUME + digest("/x/v"): value, "io.alcove.cpus": "1"}
    (found,) = oci.nfs_volumes(annotations)
    assert (found[:3], found.name) == (volume, digest("/x/v"))
    plan, given = with_mount(bind("/x/v"), annotations=annotations)
    assert plan.nfs == [found]
    assert given["source"] == f"/run/alcove/nfs/{found.name}"
    assert not plan.shares


def test_nfs_volumes_have_an_end() -> None:
    many = {f"{oci.NFS_VOLUME}{number:016x}": "10.0.0.1:/srv" for number in range(65)}
    for wrong in (many, {f"{oci.NFS_VOLUME}../x": "10.0.0.1:/srv"}, {oci.NFS_VOLUME + digest("/x"): "/srv"}):
        with pytest.raises(SpecError, match="NFS"):
            oci.nfs_volumes(wrong)
    del many[f"{oci.NFS_VOLUME}{0:016x}"]
    assert len(oci.nfs_volumes(many)) == 64


@given(st.text())
def test_an_nfs_volume_of_any_text_is_one_or_refused(value: str) -> None:
    try:
        (found,) = oci.nfs_volumes({oci.NFS_VOLUME + digest("/x"): value})
    except SpecError:
        return
    # Nothing that could be more than a server's name.
    assert not set(found.server) & set(",[]% \n\0/")
    assert found.path.startswith("/")


def test_names_are_found_as_in_the_pods_containers() -> None:
    mounts = [{"destination": "/etc/hosts", "source": "/x/h"}, {"destination": "/etc/resolv.conf", "source": "/x/r"}]
    assert oci.resolver({"mounts": mounts}) == "/x/r"
    assert oci.resolver({"mounts": mounts[:1]}) is None


def test_a_source_that_is_missing_is_named() -> None:
    with pytest.raises(SpecError, match="/srv/none"):
        with_mount(bind("/srv/none"), facts=Facts(none="missing"))


def test_the_machines_size_is_the_pods() -> None:
    cri = {"io.kubernetes.cri.sandbox-cpu-quota": "150000", "io.kubernetes.cri.sandbox-cpu-period": "100000"}
    spec = {"annotations": {**cri, "io.kubernetes.cri.sandbox-memory": str(512 << 20)}}
    assert oci.machine_size(spec) == (1.5, 512, 0)
    resources = {"cpu": {"quota": -1, "period": 100000}, "memory": {"limit": -1}}
    assert oci.machine_size({"linux": {"resources": resources}}) == (0, 0, 0)
    annotations = {"io.alcove.cpus": "2", "io.alcove.memory-mib": "oops", "io.alcove.disk-mib": "100"}
    assert oci.machine_size({"annotations": annotations}) == (2.0, 0, 100)


def test_a_containers_own_limit_is_its_annotation() -> None:
    assert oci.disk_limit({"annotations": {oci.DISK_BYTES: "1048576"}}) == 1 << 20
    assert oci.disk_limit({}) == oci.disk_limit({"annotations": None}) == 0
    for wrong in ("much", "-5", "inf", "nan", "1e9", "9" * 30):
        with pytest.raises(SpecError, match="number of bytes"):
            oci.disk_limit({"annotations": {oci.DISK_BYTES: wrong}})


# Root file systems


def test_layers_are_lowest_first(tmp_path: Path) -> None:
    options = ["index=off", f"upperdir={tmp_path}", "workdir=/w", "lowerdir=/c:/b:/a"]
    overlay = [{"type": "overlay", "options": options}]
    assert rootfs.layers(overlay, {}, "/bundle") == ["/a", "/b", "/c"]
    (tmp_path / "changed").touch()
    assert rootfs.layers(overlay, {}, "/bundle") == ["/a", "/b", "/c", str(tmp_path)]
    assert rootfs.layers([{"type": "bind", "source": "/one"}], {}, "/bundle") == ["/one"]
    assert rootfs.layers([], {"root": {"path": "/unpacked"}}, "/bundle") == ["/unpacked"]


@pytest.mark.parametrize(
    "mounts",
    [
        [{"type": "ext4", "source": "/dev/sda", "options": []}],
        [{"type": "overlay", "options": ["upperdir=/u"]}],
        [{"type": "overlay", "options": ["lowerdir=" + ":".join(map(str, range(129)))]}],
    ],
)
def test_other_root_file_systems_are_refused(mounts: list[dict[str, Any]]) -> None:
    with pytest.raises(SpecError):
        rootfs.layers(mounts, {}, "/bundle")


# Files on their way in


def unpacked(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar.getmembers()}


@given(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=60))
def test_any_name_survives_the_tar(name: str) -> None:
    status = os.stat("/")
    header = host_files._header(f"0/{name * 3}", b"0", status)
    assert f"0/{name * 3}" in unpacked(header + bytes(1024))


def test_a_configmap_as_kubelet_writes_it_is_copied_whole(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026/key").write_text("value")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key").symlink_to("..data/key")
    members = unpacked(host_files.pack([CopyIn(str(tmp_path), "0")]))
    assert members["0/..2026/key"].size == 5
    assert members["0/key"].linkname == "..data/key"


@pytest.mark.parametrize("target", ["/etc/shadow", "../secret", "a/../../secret"])
def test_links_that_lead_out_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(SpecError, match="leads out"):
        host_files.pack([CopyIn(str(tmp_path), "0")])


def test_what_is_too_large_or_strange_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", host_files.MAX_BYTES + 1)
    with pytest.raises(SpecError, match="limit"):
        host_files.pack([CopyIn(str(tmp_path / "large"), "0")])
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SpecError):
        host_files.pack([CopyIn(str(tmp_path / "fifo"), "0")])
