"""The real server, faces, control plane and dispatcher over a tier without machines, in a thread on
uvloop.

The handlers are those of ``tests/fakes.py``: ``echo``, ``raise``, ``exit``, ``sleep``, ``print``,
``initfail``.
"""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvloop
from baidubce.auth.bce_credentials import BceCredentials
from baidubce.bce_client_configuration import BceClientConfiguration
from baidubce.retry.retry_policy import NoRetryPolicy
from baidubce.services.cfc.cfc_client import CfcClient
from botocore.config import Config
from tests.fakes import FakeKernelTier
from tests.parity.conforming import ConformingApp

from alcove.api.router import Route
from alcove.api.s3 import S3App
from alcove.composition import open_services
from alcove.gateway.streaming import StreamServer
from alcove.sandbox.protocol import Isolation
from alcove.settings import Settings

ROLE = "arn:aws:iam::000000000000:role/any"


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


HELLO = zipped({"app.py": b"def handler(event, context):\n    return event\n"})


@dataclass
class Platform:
    """What the tests see of the running server."""

    port: int
    socket: Path
    access_key: str
    secret: str
    tenant: str
    other_access_key: str
    other_secret: str
    routes: tuple[Route, ...] = field(default=(), repr=False)
    s3_port: int = 0
    s3_socket: Path = Path()
    faults: list[str] = field(default_factory=list)  # answers that are not in the OpenAPI document

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def health(self) -> dict[str, Any]:
        return {"status": "ok"}

    def endpoint(self) -> str:
        return self.url

    def s3_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    def s3(
        self, access_key: str = "", secret: str = "", *, endpoint: str = "", region: str = "", **options: Any
    ) -> Any:
        config: dict[str, Any] = {"retries": {"max_attempts": 0}, "read_timeout": 30, **options}
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.s3_endpoint(),
            region_name=region or "eu-central-1",
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret or self.secret,
            config=Config(**config),
        )

    def aws(self, access_key: str = "", secret: str = "", **options: Any) -> Any:
        config: dict[str, Any] = {"retries": {"max_attempts": 0}, "read_timeout": 30, **options}
        return boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name="eu-central-1",
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret or self.secret,
            config=Config(**config),
        )

    def cfc(self, access_key: str = "", secret: str = "") -> Any:
        credentials = BceCredentials(access_key or self.access_key, secret or self.secret)
        return CfcClient(
            BceClientConfiguration(credentials=credentials, endpoint=self.url, retry_policy=NoRetryPolicy())
        )


async def _serve(folder: Path, started: Any, stop: asyncio.Event, cri: Any = None) -> None:
    async with AsyncExitStack() as stack:
        containerd = folder / "containerd.sock"
        if cri is not None:
            await cri.start(containerd)
            stack.push_async_callback(cri.close)
        settings = Settings(
            containerd=str(containerd),
            state=folder,
            max_sandboxes=8,
            memory_reserve_mib=0,
            source_networks=(ip_network("127.0.0.0/8"),),
        )
        services = await open_services(
            stack, settings, {Isolation.VM: FakeKernelTier(boot_s=1.0)}, region="eu-central-1"
        )
        tenants = services.tenants
        other = await tenants.create("other")
        await services.functions.recover()
        await services.start(stack)
        mine, theirs = tenants.keys_of(tenants.default.id)[0], tenants.keys_of(other.id)[0]
        platform = Platform(
            0,
            folder / "run" / "api.sock",
            mine.access_key,
            mine.secret,
            tenants.default.id,
            theirs.access_key,
            theirs.secret,
        )
        app = ConformingApp(platform, services)
        platform.faults = app.faults
        platform.routes = app.routes
        server = app.server()
        stack.push_async_callback(server.close, 2.0)
        stack.callback(services.queues.wake)
        await server.listen_unix(platform.socket)
        platform.port = await server.listen_tcp("127.0.0.1", 0)
        face = S3App(services)
        store = StreamServer(face.handle, refusal=face.refusal)
        stack.push_async_callback(store.close, 2.0)
        platform.s3_socket = folder / "run" / "s3.sock"
        await store.listen_unix(platform.s3_socket)
        platform.s3_port = await store.listen_tcp("127.0.0.1", 0)
        started(platform)
        await stop.wait()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with serving(tmp_path_factory.mktemp("parity")) as platform:
        yield platform


@contextmanager
def serving(folder: Path, cri: Any = None) -> Iterator[Platform]:
    """A server in a thread. Without ``cri`` (``tests/cri_fake.py``) no containerd answers."""
    ready = threading.Event()
    found: list[Platform] = []
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def started(platform: Platform) -> None:
        found.append(platform)
        ready.set()

    async def main() -> None:
        stop = asyncio.Event()
        control.append((asyncio.get_running_loop(), stop))
        await _serve(folder, started, stop, cri)

    thread = threading.Thread(target=lambda: uvloop.run(main()), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield found[0]
    loop, stop = control[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    assert not thread.is_alive()
    assert not found[0].faults, "answers are not as the OpenAPI document says:\n" + "\n".join(found[0].faults[:20])


@pytest.fixture(scope="session")
def aws(platform: Platform) -> Any:
    return platform.aws()


@pytest.fixture(scope="session")
def cfc(platform: Platform) -> Any:
    return platform.cfc()


@pytest.fixture
def function(aws: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """An ``echo`` function of the default tenant."""
    name = f"f{abs(hash(request.node.nodeid)) % 10**12}"
    aws.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="echo",
        Code={"ZipFile": HELLO},
        Tags={"a": "b"},
    )
    yield name
    try:
        aws.delete_function(FunctionName=name)
    except aws.exceptions.ResourceNotFoundException:
        pass
