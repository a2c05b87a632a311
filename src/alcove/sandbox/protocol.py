"""What a sandbox is, whichever tier it belongs to.

A ``Tier`` starts sandboxes; a ``Sandbox`` is loaded with one workload, once, and then answers invocations, one
at a time or, where they are ``shared``, several at once, until it is closed. Every tier passes
``tests/contract/test_sandbox.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NewType, Protocol, runtime_checkable

import msgspec

from alcove.errors import SandboxError
from alcove.images.families import Family

SandboxId = NewType("SandboxId", str)
TenantId = NewType("TenantId", str)


class Isolation(StrEnum):
    """The isolation tiers, strongest first. None is ever chosen silently in place of another."""

    # An enumeration's own hash is slow, and tiers are looked up for each call.
    __hash__ = str.__hash__

    VM = "vm"
    GVISOR = "gvisor"
    PROCESS = "process"

    @property
    def strength(self) -> int:
        """Orders the tiers: the stronger, the higher."""
        return _STRENGTH[self]


_STRENGTH = {Isolation.PROCESS: 0, Isolation.GVISOR: 1, Isolation.VM: 2}


class Runtime(StrEnum):
    """The language runtimes that a guest image holds."""

    PYTHON = "python3.11"
    NODE = "nodejs18"
    PROVIDED = "provided"
    JAVA = "java17"
    PHP = "php8.2"

    @property
    def family(self) -> Family:
        """The family of guest images that holds it."""
        return {Runtime.JAVA: Family.JAVA, Runtime.PHP: Family.PHP}.get(self, Family.BASE)


class Start(StrEnum):
    """How a sandbox came to be."""

    BOOTED = "booted"
    RESTORED = "restored"
    SNAPSHOT = "snapshot"


class Delivery(StrEnum):
    """How code reaches a sandbox that runs already."""

    MOUNTED = "mounted"
    COPIED = "copied"


@dataclass(frozen=True, slots=True)
class CodeImage:
    """A code package as one read-only squashfs file, named by the SHA-256 of the file.

    The file is padded (sparse) to ``images.code.IMAGE_SIZE`` so that swapping it behind a live block device
    changes no capacity. ``layered``: it holds the code in ``task`` and layers in ``opt`` (``images.code_layers``).
    """

    digest: str
    path: Path
    layered: bool = False


@dataclass(frozen=True, slots=True)
class Logging:
    """How a function's log lines are written. ``level`` and ``system_level`` are the least that is kept, of its own
    lines and of the platform's; with ``Text`` they are empty and everything is.
    """

    format: str = "Text"
    level: str = ""
    system_level: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One function version as a sandbox needs to know it."""

    tenant: TenantId
    function_name: str
    version: str
    arn: str
    runtime: Runtime
    handler: str
    code: CodeImage
    memory_mib: int = 128
    scratch_mib: int = 512
    timeout_s: float = 3.0
    environment: Mapping[str, str] = field(default_factory=dict)
    network: bool = True
    logging: Logging = field(default_factory=Logging)
    # Tells this code and configuration from every other that the version had or will have.
    revision: str = ""
    # How many requests may be inside at once.
    concurrency: int = 1
    # The digest of a kernel of its own (``images/kernels.py``), "" for the guest image's.
    kernel: str = ""


class AnswerSink(Protocol):
    """Who takes an answer as it is made. ``on_room`` is set by the sandbox, which calls ``write`` no more, but for
    what it holds already, from a False until ``on_room`` was called.
    """

    on_room: Callable[[], None]

    def begin(self, content_type: str) -> None:
        """The function has begun to answer; called once, before the first ``write``."""
        ...

    def write(self, data: bytes) -> bool:
        """Take a part; return whether there is room for more."""
        ...

    def problem(self) -> bytes | None:
        """At the end: return the FAILURE document of what was wrong with the answer, or None."""
        ...


class Invocation(msgspec.Struct, frozen=True):
    """One request. ``deadline_ms`` is Unix time in milliseconds. A function that streams its answer streams it to
    ``sink``; where there is none, its parts are put together. ``shared``: others may be in the sandbox with it.
    """

    request_id: str
    event: bytes
    deadline_ms: int
    arn: str = ""
    trace_id: str = ""
    client_context: str = ""
    sink: AnswerSink | None = None
    shared: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """The answer: ``error`` is None, or the FAILURE document (errorMessage, errorType, stackTrace) as JSON bytes.

    ``content_type`` is what a function that streams says of its answer, else empty; with a sink, ``payload`` is then
    empty. ``streamed_bytes`` counts what was streamed.
    """

    payload: bytes
    error: bytes | None = None
    content_type: str = ""
    streamed_bytes: int = 0


# How long who waits for an answer, and gets none, waits for what the function has used.
MEASURE_S = 1.0
# Called with (stream 1 or 2, bytes) for what the workload prints; markers of the runtime included.
LogSink = Callable[[int, bytes], None]
# Called once, with the reason as in ``errors.SandboxGone.reason``, when the sandbox ends unasked.
ExitSink = Callable[[str], None]


class Sandbox(Protocol):
    """A started sandbox. Methods raise ``SandboxGone`` when it has died and ``ProtocolError`` when it misbehaves."""

    id: SandboxId
    isolation: Isolation
    runtime: Runtime
    start: Start
    phases_ms: dict[str, float]  # what its start cost, by phase, in order; load() and invoke() add to it

    def listen(self, *, log: LogSink, exit: ExitSink) -> None: ...

    async def rehearse(self) -> None:
        """Serve a built-in sample and forget it: what comes after finds caches and translated code warm."""
        ...

    async def load(self, workload: Workload, delivery: Delivery = Delivery.MOUNTED) -> None:
        """Bring the code in, connect the tenant's network, apply limits, run the init code.

        Raises ``InitError`` with the FAILURE document where the tenant's init code fails.
        """
        ...

    async def invoke(self, invocation: Invocation) -> Outcome: ...

    def memory_peak_mib(self) -> int | None:
        """The most memory that the function has used here, rounded up, as it is known when a request's output has
        ended; None where it is not.
        """
        ...

    async def measure(self) -> None:
        """Find out what ``memory_peak_mib`` says, of a function that does not answer; at most ``MEASURE_S``."""
        ...

    async def close(self) -> None:
        """Destroy it and everything it owned; idempotent, and never raises for what is gone already."""
        ...


# Decides by a sandbox's record, as it is on disk, whether it is taken over from an earlier daemon.
Adopts = Callable[[Mapping[str, Any]], bool]


def adopt_none(record: Mapping[str, Any]) -> bool:
    return False


class Tier(Protocol):
    """A maker of sandboxes. ``available`` is empty where the tier works here, else the reason why not."""

    isolation: Isolation

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        """Make ready, once, what starts of this runtime share (guest image, template)."""
        ...

    def has_image(self, runtime: Runtime) -> bool:
        """Whether the guest image that ``prepare`` would build, which takes minutes, is there."""
        ...

    async def start(self, runtime: Runtime, how: Start | None = None) -> Sandbox:
        """Start a sandbox without code; ``how`` None is the tier's fastest. Raises ``HostError``, ``CapacityError``."""
        ...

    async def recover(self, adopt: Adopts = adopt_none) -> Sequence[Sandbox]:
        """After a crash: take over the loaded sandboxes that ``adopt`` accepts; destroy every other leftover."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class SnapshotTier(Tier, Protocol):
    """A tier that can save a version after its init code has run, and restore it from that."""

    async def snapshot(self, workload: Workload) -> None:
        """Save the version, unless that was done. Raises ``InitError`` where its code fails."""
        ...

    def has_snapshot(self, workload: Workload) -> bool: ...

    async def start_snapshot(self, workload: Workload) -> Sandbox:
        """Restore the version, loaded. Raises ``SnapshotUnfit`` where there is no snapshot that fits."""
        ...

    async def drop_snapshot(self, workload: Workload) -> None: ...


@runtime_checkable
class KernelTier(Tier, Protocol):
    """A tier whose sandboxes can run another kernel than the guest image's."""

    async def prepare_kernel(
        self, runtime: Runtime, kernel: str, progress: Callable[[str], None] | None = None
    ) -> None:
        """As ``prepare``, for the kernel of that digest. Raises ``NotFound`` where it is not registered."""
        ...

    def has_kernel(self, runtime: Runtime, kernel: str) -> bool:
        """Whether what ``prepare_kernel`` would make, which takes a boot, is there."""
        ...

    async def start_kernel(self, runtime: Runtime, kernel: str) -> Sandbox:
        """As ``start``, on the kernel of that digest. Raises ``NotFound`` where it is not registered."""
        ...


class InitError(Exception):
    """The tenant's init code failed; ``document`` is the FAILURE JSON."""

    def __init__(self, document: bytes) -> None:
        super().__init__(document.decode(errors="replace"))
        self.document = document


class SnapshotUnfit(SandboxError):
    """There is no snapshot of the version, or none that can be restored here."""
