from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.server import Server, is_clean

STATE = Path("build/test-state")
Package = Callable[[dict[str, str]], bytes]


def package(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.external_attr = 0o100755 << 16
            archive.writestr(info, text)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert os.geteuid() == 0, "these tests start real machines: run them as root"
    server = Server(STATE, tmp_path_factory.mktemp("run"), "--pool-nodejs", "0", "--pool-provided", "0")
    server.start()
    try:
        yield server
    finally:
        server.stop()
        assert is_clean(server.leftovers()), server.leftovers()


@pytest.fixture(scope="session")
def aws(server: Server) -> Any:
    return server.client()


@pytest.fixture
def deploy(aws: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Deploy a Python function from its source; deleted at the end."""
    names: list[str] = []

    def create(source: str, **options: Any) -> str:
        name = f"f{abs(hash(request.node.nodeid)) % 10**10}-{len(names)}"
        defaults = {
            "Runtime": "python3.11",
            "Handler": "app.handler",
            "Role": "arn:aws:iam::000000000000:role/any",
            "MemorySize": 1024,
            "Timeout": 20,
            "Code": {"ZipFile": package({"app.py": source})},
        }
        aws.create_function(FunctionName=name, **{**defaults, **options})
        names.append(name)
        return name

    yield create
    for name in names:
        aws.delete_function(FunctionName=name)
