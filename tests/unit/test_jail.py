"""The jail's folder and the command line that enters it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alcove.errors import HostError
from alcove.vmm import jail as module
from alcove.vmm.jail import FIRMWARE, PROGRAM, USERS, Jail, build_jail, machine_users, remove_other_jails


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for QEMU: small files of which a jail is made."""
    source = tmp_path / "host"
    files = [source / "usr/bin/qemu", source / "usr/lib/libone.so", source / "usr/share/firmware.bin"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    monkeypatch.setattr(module, "PROGRAM", files[0])
    monkeypatch.setattr(module, "_files", lambda: files)
    return files[0]


def test_it_holds_the_files_and_nothing_else(program: Path, tmp_path: Path) -> None:
    jail = build_jail(tmp_path / "jail")
    found = {path.name for path in jail.root.rglob("*") if path.is_file()}
    assert found == {"qemu", "libone.so", "firmware.bin"}
    assert (jail.root / program.relative_to("/")).read_text() == "qemu"
    for empty in ("proc", "dev", "tmp"):
        assert [path.name for path in (jail.root / empty).iterdir() if path.name != "kvm"] == [] or empty == "tmp"
    assert jail.root.parent.stat().st_mode & 0o777 == 0o700
    assert jail.root.stat().st_mode & 0o777 == 0o755


def test_it_is_built_once_and_anew_for_another_program(program: Path, tmp_path: Path) -> None:
    first = build_jail(tmp_path / "jail")
    made = first.root.stat().st_ino
    assert build_jail(tmp_path / "jail") == first
    assert first.root.stat().st_ino == made
    program.write_text("another version")
    second = build_jail(tmp_path / "jail")
    assert second.digest != first.digest
    remove_other_jails(second)
    assert [path.name for path in (tmp_path / "jail").iterdir()] == [second.digest]


def test_a_relative_folder_works(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert build_jail(Path("jail")).root.is_absolute()


def test_each_instance_has_users_of_its_own() -> None:
    first, second = machine_users("0123abcd"), machine_users("0123abce")
    assert len(first) == USERS
    assert not set(first) & set(second)
    assert machine_users("ffffffff")[-1] < 1 << 31


def test_an_interrupted_build_leaves_nothing(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_files", lambda: [program, tmp_path / "host/usr/bin"])
    with pytest.raises(OSError):
        build_jail(tmp_path / "jail")
    assert list((tmp_path / "jail").iterdir()) == []


def test_without_qemu_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRAM", tmp_path / "nowhere")
    with pytest.raises(HostError) as caught:
        build_jail(tmp_path / "jail")
    assert "apt-get install" in caught.value.hint


def test_the_command_enters_it_before_qemu_runs() -> None:
    jail = Jail(Path("/jail"), "x")
    argv = jail.command(["-name", "a b"], user=2_000_007, cgroup_files=[Path("/cg/a"), Path("/cg/b")])
    assert argv[0].endswith("/unshare")
    assert {"--mount", "--net", "--ipc", "--uts"} <= set(argv[: argv.index("--")])
    script = argv[argv.index("-c") + 1]
    joins, chroot = script.index('> "$file"'), script.index("exec chroot")
    assert joins < chroot, "the cgroup is joined first"
    assert '--userspec="$user:$user"' in script
    assert "--groups= " in script
    # Arguments are passed as words, never pasted into the script.
    assert argv[argv.index("alcove-jail") + 1 :] == [
        "/jail", "2000007", "/cg/a /cg/b", "25165824", str(PROGRAM), "-name", "a b",
    ]  # fmt: skip
    assert all(os.path.basename(name) == name for name in FIRMWARE)
