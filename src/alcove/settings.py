"""The server's settings: one row each.

A row gives a setting its type, default, help and limits; the file, the environment, the flags of
``alcove serve`` and the reference (``alcove settings``) all come from it. Precedence, strongest
first: flag, environment (``ALCOVE_`` and the name in capitals), file (TOML, flat), default. What is
read is parsed once, here, into a frozen ``Settings``.
"""
# ruff: noqa: RUF009 (_row is dataclasses.field with a shorter spelling)

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from alcove.errors import InvalidRequest

ENVIRONMENT_PREFIX = "ALCOVE_"
DEFAULT_FILE = Path("/etc/alcove/alcove.toml")
# sockaddr_un holds 108 bytes, the last a NUL; some clients stop at 104 (unix(7)).
_SOCKET_PATH_LIMIT = 104
_OWN_SOCKET_PATH_LIMIT = 107


class Address(NamedTuple):
    """Where a server listens. Port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Row:
    """What is said about a setting beside its type and default; limits are inclusive."""

    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False


def _row(default: Any, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"row": Row(help, **limits)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One running server's settings. Units are in the names; an empty tuple means "find out"."""

    state: Path = _row(
        Path("/var/lib/alcove"),
        "Folder for all that must survive a restart (mode 0700). Needs about 3 GiB.",
    )
    run: Path = _row(Path("/run/alcove"), "Folder for api.sock and daemon.pid.")
    listen: Address = _row(
        Address("127.0.0.1", 9600),
        "HOST:PORT of the API over TCP. Requests must be signed; port 0 takes a free one.",
    )
    s3_listen: Address = _row(
        Address("127.0.0.1", 9601),
        "HOST:PORT of the object store, which S3 clients use. Requests must be signed; port 0 takes a free one.",
    )
    bucket_quota_mib: int = _row(10_240, "What each tenant may store in buckets, in MiB.", low=0, high=1 << 34)
    bucket_objects: int = _row(1_000_000, "How many objects each tenant may store.", low=0, high=1 << 40)
    bucket_upload_hours: int = _row(
        168,
        "Hours after which an upload in parts that is not completed is aborted, and its parts freed.",
        low=1,
        high=24 * 366,
    )
    pool_python: int = _row(1, "Started machines kept waiting for Python functions; 0 keeps none.", low=0, high=1000)
    pool_nodejs: int = _row(1, "Started machines kept waiting for Node.js functions; 0 keeps none.", low=0, high=1000)
    pool_provided: int = _row(
        1, "Started machines kept waiting for functions with their own runtime.", low=0, high=1000
    )
    idle_timeout_s: float = _row(
        300.0,
        "Seconds that a sandbox stays after its last call: memory against cold starts.",
        low=0,
        high=86_400,
    )
    max_sandboxes: int = _row(
        256,
        "Most sandboxes of functions at once, beside those of the pools; calls beyond it wait, then are throttled.",
        low=1,
        high=65_536,
    )
    starts_at_once: int = _row(
        0,
        "Sandboxes that start side by side; calls wait for their turn. 0: twice the processors, at least 4.",
        low=0,
        high=1024,
    )
    concurrency: int = _row(
        1000,
        "Calls that one tenant may have running at once; more are answered 429 at once.",
        low=1,
        high=1_000_000,
    )
    unreserved_concurrency: int = _row(
        100,
        "What reserved and provisioned concurrency must leave of a tenant's concurrency for its other functions.",
        low=0,
        high=1_000_000,
    )
    queue_wait_s: float = _row(
        5.0,
        "Seconds that a call waits for a sandbox where none is free, before it is answered 429; 0: it does not wait.",
        low=0,
        high=900,
    )
    queue_length: int = _row(
        1000,
        "Calls that wait for a sandbox at once; beyond it the tenant with the most of them is answered 429.",
        low=0,
        high=100_000,
    )
    prewarm: int = _row(
        4,
        "Most sandboxes kept ready for one published version (or one whose requests each get a new sandbox) when its "
        "calls find none idle; 0 keeps none.",
        low=0,
        high=100,
    )
    tenant_functions: int = _row(
        50_000,
        "Functions that one tenant may have. This and the next ones are defaults: 'alcove tenant quota' sets others.",
        low=0,
        high=10_000_000,
    )
    tenant_code_mib: int = _row(
        76_800, "MiB of code, all versions together, that one tenant may have.", low=0, high=1 << 30
    )
    tenant_timers: int = _row(10_000, "Timers that one tenant may have.", low=0, high=1_000_000)
    tenant_events: int = _row(
        100_000, "Asynchronous calls of one tenant that may wait; more are answered 429.", low=0, high=100_000_000
    )
    tenant_flows: int = _row(200, "Flows that one tenant may have.", low=0, high=1_000_000)
    tenant_executions: int = _row(
        100, "Executions of one tenant's flows that may run at once; more are answered 429.", low=0, high=2000
    )
    tenant_instances: int = _row(
        50_000, "Container instances that one tenant may have, ended ones included.", low=0, high=1_000_000
    )
    free_calls: int = _row(
        1_000_000, "Calls that are free for each tenant in a month ('alcove usage').", low=0, high=10**15
    )
    free_gb_s: int = _row(400_000, "GB-seconds that are free for each tenant in a month.", low=0, high=10**12)
    price_of_a_million_calls: float = _row(
        0.0,
        "Price of a million calls beyond the free ones, for 'alcove usage'; with all prices 0 it shows no cost.",
        low=0,
        high=1e9,
    )
    price_of_a_gb_s: float = _row(0.0, "Price of a GB-second beyond the free ones.", low=0, high=1e9)
    price_of_a_vcpu_s: float = _row(0.0, "Price of a vCPU for a second, of an instance.", low=0, high=1e9)
    price_of_an_instance_gb_s: float = _row(
        0.0, "Price of a GB of memory for a second, of an instance.", low=0, high=1e9
    )
    price_of_a_disk_gb_s: float = _row(0.0, "Price of a GB of disk for a second, of an instance.", low=0, high=1e9)
    price_of_a_traffic_gb: float = _row(0.0, "Price of a GB that an instance receives or sends.", low=0, high=1e9)
    log_mib: int = _row(
        4096,
        "MiB of disk for what functions print, of all together; each has 8 at most. Beyond it the oldest go.",
        low=1,
        high=1 << 30,
    )
    memory_reserve_mib: int = _row(512, "Memory of the host, in MiB, that sandboxes never get.", low=0, high=1 << 20)
    snapshot_memory_mib: int = _row(
        4096,
        "Memory, in MiB, for snapshots of published versions that are ready to restore; what was used least recently "
        "goes back to the disk.",
        low=256,
        high=1 << 24,
    )
    stream_limit_mib: int = _row(
        20, "Most that one streamed answer may have, in MiB; what is beyond ends it with an error.", low=1, high=4096
    )
    timer_window_s: float = _row(
        600.0,
        "Seconds after which a timer's run that was missed, for the server was down, is not made up for.",
        low=0,
        high=86_400,
    )
    flow_retention_days: float = _row(
        7.0, "Days for which executions of flows are kept after their end.", low=0, high=3650
    )
    route_domains: tuple[str, ...] = _row(
        ("apps.localhost",),
        "Domains under which tenants may take hosts for their routes; the operator may take any host.",
    )
    isolation_allowed: tuple[str, ...] = _row(
        ("vm", "gvisor", "process"),
        "Isolation tiers that are offered. Which of them a function runs in, the isolation rules decide.",
        choices=("vm", "gvisor", "process"),
    )
    isolation_rules: str = _row(
        "", "A TOML file of isolation rules (`alcove policy check --help`); without one everything runs in vm."
    )
    isolation_floor: str = _row(
        "process",
        "The weakest tier that anything may run in, whatever the rules and choices say.",
        choices=("vm", "gvisor", "process"),
    )
    network_subnet: IPv4Network = _row(
        IPv4Network("10.212.0.0/16"),
        "Addresses for sandboxes. Choose one that nothing else here uses.",
    )
    dns: tuple[IPv4Address, ...] = _row(
        (), "Resolvers for sandboxes (IPv4 addresses); without any, those of this host."
    )
    containerd: str = _row(
        "",
        "The socket of a containerd to run container images with ('alcove setup containerd' says how to set it up); "
        "without one a private containerd is started when it is first needed.",
    )
    instance_subnet: IPv4Network = _row(
        IPv4Network("10.213.0.0/16"),
        "Addresses for instances that the private containerd runs. Choose one that nothing else here uses.",
    )
    instance_isolation: str = _row(
        "vm",
        "Isolation tier of instances that name none; the operator may choose another for each. "
        "kata: Kata Containers, where it is installed.",
        choices=("vm", "kata", "gvisor", "process"),
    )
    registry_mirrors: tuple[str, ...] = _row(
        (),
        "Where images of a registry are fetched first: REGISTRY=URL, such as docker.io=http://cache.lan:5000; "
        "the registry * stands for all. For the private containerd.",
    )
    registry_auth: str = _row(
        "", "A file of credentials for registries, as docker and skopeo write it (config.json, auth.json)."
    )
    image_stall_s: float = _row(
        60.0,
        "Seconds that fetching an image may make no progress before it is given up.",
        low=1,
        high=86_400,
    )
    source_networks: tuple[IPv4Network | IPv6Network, ...] = _row(
        (),
        "Networks that event sources outside (Redis, RabbitMQ) may be in; without any, all but this host and "
        "link-local addresses.",
    )
    source_ca: str = _row(
        "",
        "A PEM file of authorities that certificates of event sources outside (TLS) may be signed by, beside those "
        "that this host trusts.",
    )
    accelerator: str = _row(
        "auto",
        "auto tries hardware virtualisation by booting something; kvm and tcg (emulation) insist.",
        choices=("auto", "kvm", "tcg"),
    )
    metrics_listen: Address | None = _row(
        None,
        "HOST:PORT of GET /metrics for Prometheus over TCP, unsigned; by default it is on the UNIX socket only.",
    )
    otlp_endpoint: str = _row(
        "", "URL of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318; none: no traces go out."
    )
    otlp_sample: float = _row(
        1.0,
        "Share of the traces that begin here which are exported; others are as their caller decided.",
        low=0,
        high=1,
    )
    pods: str = _row(
        "on",
        "Whether machines are made for pods, whose shims ask for them at pods.sock in the run folder.",
        choices=("on", "off"),
    )
    pod_cpus: float = _row(1.0, "Processors of a pod that says nothing of them.", low=0.01, high=8)
    pod_memory_mib: int = _row(2048, "Memory of a pod that says nothing of it, in MiB.", low=16, high=15_744)
    pod_disk_mib: int = _row(
        10_240,
        "What the containers of a pod may write beside their volumes, in MiB; the host's disk gives what is used.",
        low=1,
        high=10_240,
    )
    pod_network: str = _row(
        "tcfilter",
        "How a pod's machine takes over what a CNI plugin made; the annotation io.alcove.network-model says otherwise.",
        choices=("tcfilter", "macvtap"),
    )
    pod_waiting: int = _row(
        1,
        "Machines that wait, restored and warm, for pods of each shape that is in use; each takes some 250 MiB.",
        low=0,
        high=64,
    )
    pod_host_paths: str = _row(
        "annotated",
        "Which pods may be shown folders of the host: those with the annotation io.alcove.host-paths, or all. Whoever "
        "makes pods may set annotations: what guards hostPath volumes elsewhere must guard them here.",
        choices=("annotated", "all"),
    )
    log_level: str = _row(
        "info",
        "How much the server logs on stderr.",
        choices=("debug", "info", "warning", "error"),
    )

    @property
    def api_socket(self) -> Path:
        return self.run / "api.sock"

    @property
    def s3_socket(self) -> Path:
        return self.run / "s3.sock"

    @property
    def pods_socket(self) -> Path:
        return self.run / "pods.sock"

    @property
    def pid_file(self) -> Path:
        return self.run / "daemon.pid"


@dataclass(frozen=True, slots=True)
class Setting:
    """A row together with its name, type and default, for faces that list them all."""

    name: str
    type: Any
    default: Any
    row: Row

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()

    def parse(self, value: Any, source: str) -> Any:
        """Return the value in its type. Raises ``InvalidRequest`` that names ``source``."""
        try:
            parsed = _PARSERS[self.type](value)
            self._check(parsed)
        except (ValueError, TypeError) as error:
            # Python's own messages quote the value.
            why = "" if self.row.secret else f" {value!r}: {error}"
            raise InvalidRequest(f"{source}: not accepted{why}", hint=f"{self.name}: {self.row.help}") from (
                None if self.row.secret else error
            )
        return parsed

    def show(self, value: Any) -> str:
        """Return the value as text, such as ``parse`` takes."""
        if self.row.secret:
            return "(secret)"
        if value is None:
            return ""
        return ",".join(map(str, value)) if type(value) is tuple else str(value)

    def _check(self, value: Any) -> None:
        low, high, choices = self.row.low, self.row.high, self.row.choices
        if low is not None and value < low:
            raise ValueError(f"it must be at least {low:g}")
        if high is not None and not value <= high:
            raise ValueError(f"it must be at most {high:g}")
        for one in value if isinstance(value, tuple) else (value,):
            if choices and one not in choices:
                raise ValueError(f"choose from {', '.join(choices)}")


def settings() -> Iterator[Setting]:
    """Every setting, in the order of the reference."""
    types = get_type_hints(Settings)
    for one in fields(Settings):
        yield Setting(one.name, types[one.name], one.default, one.metadata["row"])


def load_settings(*, file: Path | None = None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Return the settings in force. ``flags`` holds only what was given.

    ``file`` None is the default file, if there. Raises ``InvalidRequest`` that names the source of
    a bad value.
    """
    known = {one.name: one for one in settings()}
    values: dict[str, Any] = {}
    path = file or DEFAULT_FILE
    for name, value in _read(path, must_exist=file is not None).items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "'alcove settings' lists them all"
            raise InvalidRequest(f"{path}: there is no setting {name}", hint=hint)
        values[name] = known[name].parse(value, f"{path}: {name}")
    for one in known.values():
        if one.variable in environment:
            values[one.name] = one.parse(environment[one.variable], one.variable)
    for name, value in flags.items():
        values[name] = known[name].parse(value, known[name].flag)
    chosen = Settings(**values)
    # Of the sockets in the state folder, the longest path.
    if len(str(chosen.state / "sandboxes/s-0123456789ab/invoke.sock")) > _OWN_SOCKET_PATH_LIMIT:
        raise InvalidRequest(
            f"the path {chosen.state} is too long for the sockets in it ({_OWN_SOCKET_PATH_LIMIT} bytes)",
            hint="choose a shorter folder with --state",
        )
    if len(str(chosen.api_socket)) > _SOCKET_PATH_LIMIT:
        raise InvalidRequest(
            f"the path {chosen.api_socket} is too long for a socket ({_SOCKET_PATH_LIMIT} bytes)",
            hint="choose a shorter folder with --run",
        )
    return chosen


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        if not must_exist:
            return {}
        raise InvalidRequest(f"{path} does not exist", hint="check --config") from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} can't be read: {error}", hint="it must be a TOML file") from error


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("a folder is wanted")
    return Path(value).absolute()


def _address(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    host, colon, port = str(value).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("HOST:PORT is wanted, such as 127.0.0.1:9600")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def _whole(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError("a whole number is wanted")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("a number is wanted")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text is wanted")
    return value.strip()


def _texts(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(_text(part) for part in parts if part)


_PARSERS: dict[Any, Callable[[Any], Any]] = {
    Path: _path,
    Address: _address,
    Address | None: lambda value: None if value in ("", None) else _address(value),
    int: _whole,
    float: _number,
    str: _text,
    tuple[str, ...]: _texts,
    tuple[IPv4Address, ...]: lambda value: tuple(IPv4Address(one) for one in _texts(value)),
    tuple[IPv4Network | IPv6Network, ...]: lambda value: tuple(ip_network(one) for one in _texts(value)),
    IPv4Network: IPv4Network,
}
