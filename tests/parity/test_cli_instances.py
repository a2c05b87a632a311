"""Commands for instances, where something is wrong: what they say, what they end with, what they leave."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cri_fake import FakeCri
from tests.forwarding import COMMAND
from tests.parity.conftest import Platform, serving
from tests.parity.signing import send

from alcove.cli.client import Client
from alcove.instances import image_access
from alcove.instances.fetching import Progress


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with serving(tmp_path_factory.mktemp("instances"), FakeCri()) as platform:
        yield platform


def cli(platform: Platform, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ALCOVE_RUN": str(platform.socket.parent)}
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("exec", "none", "--", "true"), 3, "There is no instance 'none'"),
        (("port-forward", "none", "80"), 3, "There is no instance 'none'"),
        (("logs", "none"), 3, "There is no instance 'none'"),
        (("stop", "none", "-t", "-5"), 2, "-5 is not in the range"),
        (("run", "-e", "NAME", "i"), 2, "write NAME=VALUE"),
        (("run", "-p", "80", "i"), 2, "such as 8080:80"),
        (("run", "-v", "/x", "i"), 2, "write /path/here:/path/there"),
        (("run", "--memory", "lots", "i"), 2, "such as 500m, 2 or 64Mi"),
        (("run", "-v", "/nothing-here:/x", "registry.test/c:1"), 6, "The host has no path /nothing-here"),
        (("cp", "a", "b"), 2, "one of both must be NAME:PATH"),
        (("cp", "/etc/hostname", "none:/"), 3, "There is no instance 'none'"),
    ],
)
def test_what_is_wrong_is_said(platform: Platform, words: tuple[str, ...], code: int, told: str) -> None:
    done = cli(platform, *words)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert told in done.stderr


def test_nothing_is_made_of_what_cannot_be_copied(platform: Platform, tmp_path: Path) -> None:
    done = cli(platform, "cp", "none:/etc", str(tmp_path / "here"))
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "error: There is no instance 'none'.")
    assert not (tmp_path / "here").exists()


def test_one_that_is_not_there_keeps_no_other(platform: Platform) -> None:
    client = Client(platform.socket.parent)
    document = {"metadata": {"name": "real"}, "spec": {"containers": [{"name": "c", "image": "registry.test/c:1"}]}}
    client.call("POST", "/alcove/v1/pods", document)
    done = cli(platform, "rm", "-f", "none", "real", "nobody")
    assert (done.returncode, done.stdout) == (3, "real\n")
    missing = [f"error: There is no instance {name!r}." for name in ("none", "nobody")]
    assert done.stderr.splitlines()[:2] == missing
    assert json.loads(cli(platform, "ps", "--json").stdout) == []


def test_how_far_an_image_is_can_be_seen(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar is drawn while it is fetched; it is the operator who is told."""
    seen = threading.Event()

    async def fetch(cri: Any, image: str, auth: Any, *, stall_s: float) -> AsyncGenerator[Progress | str, None]:
        while not seen.is_set():
            yield Progress(1, 4)
            await asyncio.sleep(0.05)
        yield await cri.pull(image, auth)

    monkeypatch.setattr(image_access, "fetch", fetch)
    run = str(platform.socket.parent)
    command = shlex.join([*COMMAND, "run", "--run", run, "-d", "--name", "slow", "registry.test/slow:1"])
    with subprocess.Popen(["script", "-qec", command, "/dev/null"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        drawn = ""
        while "pulling registry.test/slow:1" not in drawn:
            piece = running.stdout.read(1)
            assert piece, drawn
            drawn += piece
        client = Client(platform.socket.parent)
        told = client.call("GET", "/alcove/v1/pods/slow")["alcove"]["pulling"]
        assert told == {"image": "registry.test/slow:1", "done": 1, "total": 4}
        keys = {"access_key": platform.access_key, "secret": platform.secret}
        assert b"pulling" not in send(platform.port, "GET", "/alcove/v1/pods/slow", **keys)[2]
        seen.set()
        assert "slow" in running.stdout.read()
    assert running.returncode == 0
    assert "pulling" not in client.call("GET", "/alcove/v1/pods/slow")["alcove"]


def test_without_a_server(tmp_path: Path) -> None:
    environment = {**os.environ, "ALCOVE_RUN": str(tmp_path)}
    for line in ("exec a -- b", "port-forward a 1", "cp a:/x y", "run x", "logs x"):
        done = subprocess.run(
            [*COMMAND, *line.split()], capture_output=True, text=True, env=environment, timeout=60, check=False
        )
        assert (done.returncode, "hint: start it with: alcove serve" in done.stderr) == (4, True), done.stderr
