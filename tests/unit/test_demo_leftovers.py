"""The demo's last check must see what a server leaves behind, or ``demo: ok`` would mean little."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "scripts" / "demo" / "leftovers.py"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_leftovers", FILE)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    found.GRACE_S = 0.0
    return found


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    # One process: a shell that forks has a child with its own arguments, until that has become another program.
    script = ["sh", "-c", "echo ready; read -r line", f"{tmp_path}/state/jail"]
    with subprocess.Popen(script, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        subprocess.run(["kill", "--", f"-{child.pid}"], check=True)


def test_a_clean_machine_has_none(module: ModuleType, tmp_path: Path) -> None:
    assert module.leftovers(tmp_path / "state", tmp_path / "run") == []


def test_a_process_is_found(module: ModuleType, tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    found = module.leftovers(tmp_path / "state", tmp_path / "run")
    assert [line.split(":")[0] for line in found] == [f"process {process.pid}"]


def test_a_socket_is_found(module: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "api.sock").touch()
    assert module.leftovers(tmp_path / "state", tmp_path) == [f"file: {tmp_path}/api.sock"]
