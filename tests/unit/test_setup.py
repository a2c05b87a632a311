"""What `alcove setup containerd` writes: fragments of either version, programs, and Kata where it is installed."""

from __future__ import annotations

import os
import subprocess
import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from alcove.cli.setup import group
from alcove.instances import containerd_config, launcher
from alcove.instances.runtime import Runtime, private

TABLES = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}


@pytest.mark.parametrize("version", [2, 3])
def test_the_files_name_each_other(tmp_path: Path, version: int) -> None:
    arguments = ["containerd", "--out", str(tmp_path / "o"), "--config-version", str(version), "--run", str(tmp_path)]
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 0, done.output
    assert set(done.output.split()) == {str(path) for path in (tmp_path / "o").iterdir()}
    fragment = tomllib.loads((tmp_path / "o/containerd.toml").read_text())
    assert fragment["version"] == version
    runtimes = fragment["plugins"][TABLES[version]]["containerd"]["runtimes"]
    assert set(runtimes) == {"alcove", "runc", "runsc"}
    for path in (runtimes["alcove"]["runtime_type"], runtimes["runsc"]["options"]["BinaryName"]):
        assert os.access(path, os.X_OK)
    classes = list(yaml.safe_load_all((tmp_path / "o/runtimeclasses.yaml").read_text()))
    assert [one["handler"] for one in classes] == ["alcove", "runsc"]


def test_without_a_folder_all_is_printed() -> None:
    done = CliRunner().invoke(group, ["containerd"])
    assert done.exit_code == 0
    assert all(name in done.output for name in (*launcher.programs(Path("/run")), "containerd.toml", "RuntimeClass"))


def test_kata_is_a_handler_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerd_config, "_KATA_PATH", str(tmp_path))
    assert "kata" not in containerd_config.fragment(Path("/x"), 2) + containerd_config.runtime_classes()
    program = tmp_path / containerd_config.KATA
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    runtimes = tomllib.loads(containerd_config.fragment(Path("/x"), 3))["plugins"][TABLES[3]]["containerd"]["runtimes"]
    assert runtimes["kata"]["runtime_type"] == str(program)
    assert "handler: kata" in containerd_config.runtime_classes()


def test_a_private_containerd_has_kata_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerd_config, "_KATA_PATH", str(tmp_path))
    own = private(tmp_path, tmp_path, subnet=IPv4Network("10.0.0.0/24"), mirrors={})
    assert not Runtime(own).has_kata
    assert Runtime(own, socket=tmp_path / "containerd.sock").has_kata
    program = tmp_path / containerd_config.KATA
    program.touch()
    program.chmod(0o755)
    assert Runtime(own).has_kata
    assert f'runtime_type = "{program}"' in containerd_config.render(own)


def test_the_programs_find_our_code(tmp_path: Path) -> None:
    """By themselves: with nothing of the environment."""
    launcher.write(tmp_path, tmp_path / "run")
    shim = subprocess.run([tmp_path / launcher.SHIM, "-v"], capture_output=True, text=True, env={}, check=True)
    assert shim.stdout.startswith("io.containerd.alcove.v2 ")
    written = (tmp_path / launcher.SHIM).stat().st_ino
    launcher.write(tmp_path, tmp_path / "run")
    assert (tmp_path / launcher.SHIM).stat().st_ino == written
