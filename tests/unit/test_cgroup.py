"""Groups in both versions of the hierarchy; folders stand for the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alcove.errors import HostError
from alcove.host import cgroup as module
from alcove.host.cgroup import V1_CONTROLLERS, Cgroup, Hierarchy, find_hierarchy


@pytest.fixture
def v1(tmp_path: Path) -> Hierarchy:
    for name in V1_CONTROLLERS:
        (tmp_path / name).mkdir()
    return find_hierarchy(tmp_path)


@pytest.fixture
def v2(tmp_path: Path) -> Hierarchy:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    return find_hierarchy(tmp_path)


@pytest.fixture(params=["v1", "v2"])
def hierarchy(request: pytest.FixtureRequest) -> Hierarchy:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Hierarchy)
    return found


@pytest.fixture
def group(hierarchy: Hierarchy) -> Cgroup:
    group = Cgroup("tag", "s-1", hierarchy)
    group.create()
    return group


def read(hierarchy: Hierarchy, controller: str, name: str) -> str:
    base = hierarchy.unified or hierarchy.controllers[controller]
    return (base / "alcove-tag" / "s-1" / name).read_text()


def test_the_hierarchies_are_told_apart(v1: Hierarchy) -> None:
    assert v1.unified is None
    assert set(v1.controllers) == set(V1_CONTROLLERS)


@pytest.mark.parametrize("files", [{}, {"cgroup.controllers": "cpu io\n"}])
def test_a_missing_controller_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(HostError, match="memory") as caught:
        find_hierarchy(tmp_path)
    assert caught.value.hint


def test_v1_limits(v1: Hierarchy) -> None:
    group = Cgroup("tag", "s-1", v1)
    group.create()
    group.set_limits(memory_bytes=1 << 30, cpu_fraction=0.25, cpu_shares=256, pids=64)
    assert read(v1, "memory", "memory.limit_in_bytes") == str(1 << 30)
    assert read(v1, "memory", "memory.memsw.limit_in_bytes") == str(1 << 30)
    assert (read(v1, "cpu", "cpu.cfs_quota_us"), read(v1, "cpu", "cpu.cfs_period_us")) == ("25000", "100000")
    assert read(v1, "cpu", "cpu.shares") == "256"
    assert read(v1, "pids", "pids.max") == "64"


def test_v2_limits(v2: Hierarchy) -> None:
    group = Cgroup("tag", "s-1", v2)
    group.create()
    group.set_limits(memory_bytes=1 << 30, cpu_fraction=0.25, cpu_shares=1024, pids=64)
    assert read(v2, "memory", "memory.max") == str(1 << 30)
    assert read(v2, "memory", "memory.swap.max") == "0"
    assert read(v2, "cpu", "cpu.max") == "25000 100000"
    assert read(v2, "cpu", "cpu.weight") == "39"
    assert read(v2, "pids", "pids.max") == "64"
    assert v2.unified is not None
    assert (v2.unified / "alcove-tag" / "cgroup.subtree_control").read_text().startswith("+")


def test_the_smallest_share_still_runs(hierarchy: Hierarchy, group: Cgroup) -> None:
    group.set_limits(cpu_fraction=0.000001, cpu_shares=0)
    if hierarchy.unified is None:
        assert read(hierarchy, "cpu", "cpu.cfs_quota_us") == "1000"
        assert read(hierarchy, "cpu", "cpu.shares") == "2"
    else:
        assert read(hierarchy, "cpu", "cpu.max") == "1000 100000"
        assert read(hierarchy, "cpu", "cpu.weight") == "1"


def test_what_is_not_given_is_not_set(hierarchy: Hierarchy, group: Cgroup) -> None:
    group.set_limits()
    for folder in group.procs_files():
        assert list(folder.parent.iterdir()) == []


def test_members(hierarchy: Hierarchy, group: Cgroup) -> None:
    assert group.pids() == []
    assert len(group.procs_files()) == len(hierarchy.folders())
    for file in group.procs_files():
        file.write_text("12\n34\n")
    assert group.pids() == [12, 34]
    group.add(56)
    assert group.pids() == [56]
    assert group.path == "/alcove-tag/s-1"


def test_out_of_memory_kills(hierarchy: Hierarchy, group: Cgroup) -> None:
    assert group.oom_kills() == 0
    name = "memory.oom_control" if hierarchy.unified is None else "memory.events"
    base = hierarchy.unified or hierarchy.controllers["memory"]
    (base / "alcove-tag" / "s-1" / name).write_text("under_oom 0\noom 5\noom_kill 3\n")
    assert group.oom_kills() == 3


def test_the_peak_of_memory_is_known_while_the_group_is_there(hierarchy: Hierarchy, group: Cgroup) -> None:
    assert group.memory_peak() is None
    name = "memory.max_usage_in_bytes" if hierarchy.unified is None else "memory.peak"
    base = hierarchy.unified or hierarchy.controllers["memory"]
    (base / "alcove-tag" / "s-1" / name).write_text("4096\n")
    assert group.memory_peak() == 4096


def test_everything_is_killed_again_until_nobody_is_left(
    hierarchy: Hierarchy, group: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb forks while it is being killed."""
    rounds = [[11, 12], [13], []]
    killed: list[int] = []
    monkeypatch.setattr(Cgroup, "pids", lambda self: rounds.pop(0))
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    group.kill_all()
    assert killed == [11, 12, 13]
    assert rounds == []


def test_removal(hierarchy: Hierarchy, group: Cgroup) -> None:
    assert Cgroup.list_children("tag", hierarchy) == ["s-1"]
    group.remove()
    group.remove()
    group.kill_all()
    assert Cgroup.list_children("tag", hierarchy) == []
    assert Cgroup.list_children("absent", hierarchy) == []
    for folder in hierarchy.folders():
        (folder / "alcove-tag" / "cgroup.subtree_control").unlink(missing_ok=True)
    Cgroup.remove_parent("tag", hierarchy)
    Cgroup.remove_parent("tag", hierarchy)
    assert not [folder for folder in hierarchy.folders() if (folder / "alcove-tag").exists()]


def test_a_busy_group_is_waited_for(hierarchy: Hierarchy, group: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = [folder.parent / "busy" for folder in group.procs_files()]
    for folder in busy:
        folder.mkdir()
    monkeypatch.setattr(module.time, "sleep", lambda seconds: [f.rmdir() for f in busy if f.exists()])
    group.remove()
    assert Cgroup.list_children("tag", hierarchy) == []
