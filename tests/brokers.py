"""Real Redis and RabbitMQ servers for tests: on free ports of the loopback, with and without TLS, with data folders of
their own.
"""

from __future__ import annotations

import glob
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.authority import authority, certificate

PASSWORD = "secret of the tests"


@dataclass(frozen=True)
class Broker:
    """A server that answers. ``endpoint`` is as mappings name it; ``ca`` (PEM) signs its name, which is localhost."""

    port: int
    username: str
    password: str
    tls_port: int
    ca: str

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str:
        return f"localhost:{self.tls_port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        with socket.socket() as probe:
            probe.settimeout(1)
            try:
                probe.connect(("127.0.0.1", port))
                return
            except OSError:
                assert process.poll() is None, log.read_text(errors="replace")
                assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


@contextmanager
def running(
    argv: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process in a group of its own, all of which is ended."""
    log = folder / f"{Path(argv[0]).name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process, log
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(20)


@contextmanager
def redis_server(folder: Path) -> Iterator[Broker]:
    port, tls_port = free_port(), free_port()
    signer = authority(folder)
    own = certificate(folder, signer)
    (folder / "redis.conf").write_text(
        f'bind 127.0.0.1\nport {port}\ndir {folder}\nsave ""\nappendonly no\nrequirepass "{PASSWORD}"\n'
        f"tls-port {tls_port}\ntls-cert-file {own.certificate}\ntls-key-file {own.key}\n"
        f"tls-ca-cert-file {signer.certificate}\ntls-auth-clients no\n"
    )
    argv = ["/usr/bin/redis-server", str(folder / "redis.conf")]
    with running(argv, folder, {"PATH": os.environ["PATH"]}) as (process, log):
        wait_for(port, process, log)
        yield Broker(port, "", PASSWORD, tls_port, signer.certificate.read_text())


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[Broker]:
    port, tls_port, mapper, distribution = free_port(), free_port(), free_port(), free_port()
    signer = authority(folder)
    own = certificate(folder, signer)
    (folder / "rabbitmq.conf").write_text(
        f"loopback_users = none\nlisteners.ssl.1 = 127.0.0.1:{tls_port}\nssl_options.verify = verify_none\n"
        f"ssl_options.certfile = {own.certificate}\nssl_options.keyfile = {own.key}\n"
    )
    (folder / "plugins").write_text("[].\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"alcove-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        # One scheduler is enough, and leaves the machine to the tests.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
    }
    # Not the script on the PATH, which wants to be the user rabbitmq; the port mapper as a child, not a daemon.
    (server,) = glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
    with running(["/usr/bin/epmd", "-port", str(mapper), "-address", "127.0.0.1"], folder, environment) as (names, log):
        wait_for(mapper, names, log)
        with running([server], folder, environment) as (process, log):
            wait_for(port, process, log)
            wait_for(tls_port, process, log)
            yield Broker(port, "guest", "guest", tls_port, signer.certificate.read_text())
