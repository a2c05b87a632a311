"""Starting the server: one at a time, refusals, signals. The daemon itself is a stand-in here."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alcove.cli import serve
from alcove.cli.app import root
from alcove.errors import Conflict, HostError
from alcove.settings import Address, Settings


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", run=tmp_path / "run", listen=Address("127.0.0.1", 0))


def test_only_one_server_a_state_folder(chosen: Settings, tmp_path: Path) -> None:
    with serve.only_server(chosen):
        assert chosen.pid_file.read_text() == f"{os.getpid()}\n"
        assert chosen.state.stat().st_mode & 0o777 == 0o700
        other = Settings(state=chosen.state, run=tmp_path / "other")
        with pytest.raises(Conflict, match="runs already"), serve.only_server(other):
            pass
    assert not chosen.pid_file.exists()
    with serve.only_server(chosen):
        pass


def test_a_stale_pid_file_does_not_block(chosen: Settings) -> None:
    chosen.run.mkdir()
    chosen.pid_file.write_text("999999999\n")
    with serve.only_server(chosen):
        assert chosen.pid_file.read_text() == f"{os.getpid()}\n"


def test_a_planted_link_is_not_followed(chosen: Settings, tmp_path: Path) -> None:
    chosen.run.mkdir()
    target = tmp_path / "precious"
    target.write_text("data")
    chosen.pid_file.symlink_to(target)
    with pytest.raises(OSError), serve.only_server(chosen):
        pass
    assert target.read_text() == "data"


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    chosen = Settings(state=tmp_path / "state", run=tmp_path / "run")
    with pytest.raises(HostError, match="can't be used"), serve.only_server(chosen):
        pass


def run(*arguments: str) -> Any:
    return CliRunner().invoke(root, ["serve", *arguments]).exception


def test_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    error = run()
    assert isinstance(error, HostError)
    assert "sudo" in error.hint


@pytest.fixture
def folder() -> Iterator[str]:
    """Short, as the path of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="a-") as path:
        yield path


def test_a_port_in_use_is_told(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        error = run("--listen", address, "--state", f"{folder}/s", "--run", f"{folder}/r")
    assert isinstance(error, HostError)
    assert f"can't listen on {address}: 127.0.0.1: in use" in str(error)


def test_pool_sets_what_no_own_flag_sets(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(serve, "run_server", seen.append)
    folders = ("--state", f"{folder}/s", "--run", f"{folder}/r", "--listen", "127.0.0.1:0")
    result = CliRunner().invoke(root, ["serve", *folders, "--pool", "3", "--pool-nodejs", "0"])
    assert result.exit_code == 0, result.output
    assert (seen[0].pool_python, seen[0].pool_nodejs, seen[0].pool_provided) == (3, 0, 3)


class Daemon:
    """Notes what happens to it; sends signals to its own process as told."""

    events: list[str]
    slow_start = False

    def __init__(self, chosen: Settings) -> None:
        self.events.append("made")

    async def __aenter__(self) -> Daemon:
        if self.slow_start:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(30)
        self.events.append("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # impatience must not cut the shut-down short
        await asyncio.sleep(0.05)
        self.events.append("closed")

    async def run_until_stopped(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> type[Daemon]:
    module = types.ModuleType("alcove.daemon")
    kind = type("Fresh", (Daemon,), {"events": []})
    module.Daemon = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "alcove.daemon", module)
    return kind


def test_a_signal_shuts_down_cleanly_once(daemon: type[Daemon], chosen: Settings) -> None:
    serve.run_server(chosen)
    assert daemon.events == ["made", "entered", "closed"]


def test_a_signal_during_the_start_stops_it(daemon: type[Daemon], chosen: Settings) -> None:
    daemon.slow_start = True
    serve.run_server(chosen)
    assert daemon.events == ["made"]
