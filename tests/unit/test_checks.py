"""What the host's probes say of machines that lack something."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from alcove.cli import doctor
from alcove.cli.app import root
from alcove.host import checks
from alcove.host.checks import Check, Program


def test_disk_looks_at_the_folder_to_be(tmp_path: Path) -> None:
    assert "MiB free" in checks.check_disk(tmp_path / "a" / "b").found


def test_memory_reads_what_is_available(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  4096000 kB\nMemFree: 1 kB\nMemAvailable:  512000 kB\n")
    check = checks.check_memory(meminfo)
    assert (check.ok, check.found) == (False, "500 of 4000 MiB available, 1024 MiB needed")


def test_a_missing_program_names_its_package() -> None:
    check = checks.check_program(Program("no-such-program", "some-package", (), ("gvisor",)))
    assert (check.ok, check.mend, check.needed_by) == (
        False,
        "apt-get install some-package",
        ("gvisor",),
    )


def test_a_program_that_is_there_tells_its_version() -> None:
    check = checks.check_program(Program("bash", "bash", ("--version",), ("all",)))
    assert check.ok
    assert check.found[0].isdigit()


@pytest.mark.parametrize(
    ("files", "mode", "ok"),
    [
        (["cgroup.controllers"], "unified", True),
        (["unified/cgroup.controllers", "cpu/x", "memory/x", "pids/x"], "hybrid", True),
        (["memory/x", "cpu/x"], "legacy", False),
        ([], "none", False),
    ],
)
def test_cgroup_modes(tmp_path: Path, files: list[str], mode: str, ok: bool) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("cpu memory pids")
    assert checks.cgroup_mode(tmp_path) == mode
    assert checks.check_cgroups(tmp_path).ok is ok


def test_a_device_that_does_not_open_is_told(tmp_path: Path) -> None:
    check = checks.check_tun(tmp_path / "tun")
    assert (check.ok, check.mend) == (False, "modprobe tun")
    assert "No such file" in check.found


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        check = checks.check_port(*other.getsockname())
    assert (check.ok, check.found) == (False, "127.0.0.1: in use")
    assert checks.check_port("127.0.0.1", 0).ok


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    found = [Check("root", True, "user 0"), Check("tun", True, "opens", "modprobe tun", ("vm",))]
    seen = {"kind": "tcg", "reason": "kvm hung", "seen": ["a line"], "cached": True}
    monkeypatch.setattr(doctor, "check_host", lambda state: list(found))
    monkeypatch.setattr(doctor, "_accelerator", lambda state: seen)
    return found


def run(tmp_path: Path, *options: str) -> tuple[int, str]:
    folders = ("--state", f"{tmp_path}/state", "--run", f"{tmp_path}/run", "--listen", "[::1]:0")
    result = CliRunner().invoke(root, ["doctor", *folders, *options])
    return result.exit_code, result.stdout


def test_doctor_says_what_works(tmp_path: Path, machine: list[Check]) -> None:
    code, text = run(tmp_path)
    assert code == 0
    for part in (
        "accelerator: tcg",
        "why: kvm hung (remembered)",
        "saw: a line",
        "nothing is missing",
    ):
        assert part in text


def test_doctor_says_what_mends_and_which_tiers_fail(tmp_path: Path, machine: list[Check]) -> None:
    machine[1] = Check("tun", False, "gone", "modprobe tun", ("vm",))
    code, text = run(tmp_path)
    assert code == 1
    assert "vm        no: tun" in text
    assert "process   works" in text
    assert "tun: modprobe tun" in text
    report = json.loads(run(tmp_path, "--json")[1])
    assert report["tiers"]["vm"] == {"works": False, "missing": ["tun"]}
    assert report["ok"] is False
