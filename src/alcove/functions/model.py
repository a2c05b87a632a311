"""What a function is to the control plane, and what it asks of the dispatcher."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypedDict, Unpack

import msgspec

from alcove.sandbox.protocol import AnswerSink, CodeImage, Isolation, Logging, Runtime, TenantId, Workload
from alcove.wire.trace import TraceContext

LATEST = "$LATEST"
# A tag of the function, "true" or "false": whether every request gets a new sandbox.
FRESH_VM_TAG = "alcove:fresh-vm"
# A tag of the function, 1 to 100: how many requests may be in one sandbox at once.
CONCURRENCY_TAG = "alcove:concurrency"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer version as a function uses it, whatever becomes of the layer: its ARN and its package."""

    arn: str
    package_sha256: str
    package_bytes: int


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """One version of a function: ``$LATEST`` as it was at ``revision_id``, or a published one."""

    tenant: TenantId
    function_id: str
    name: str
    version: str
    function_arn: str  # without a version: it names the function
    runtime: Runtime
    runtime_name: str  # as the client wrote it
    handler: str
    memory_mib: int
    timeout_s: int
    environment: Mapping[str, str]
    description: str
    role: str
    isolation: Isolation
    network: bool
    code: CodeImage
    package_sha256: str  # hex, of the zip
    package_bytes: int
    revision_id: str
    modified_ms: int
    dead_letter: str = ""  # ARN of the queue for events that it failed at
    tags: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    scratch_mib: int = 512  # the quota of /tmp
    logging: Logging = field(default_factory=Logging)
    # Variables that every start of the function gets beside its own; they hold a secret.
    own_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    alias: str = ""  # by which it was asked for
    asked: str = ""  # the tier that the operator chose for this function
    cause: str = ""  # the case that decided on ``isolation``, and the reason in words
    reason: str = ""
    kernel: str = ""  # digest of a kernel of its own
    # What every call asks, worked out once.
    # What the runtime tells the handler, as AWS has it: the ARN with the alias or version that was asked for.
    invoked_arn: str = field(init=False, repr=False, compare=False, default="")
    # Tells one state of ``$LATEST``, one tier and one number of requests at once from the next: no sandbox of another
    # one is taken for it.
    revision: str = field(init=False, repr=False, compare=False, default="")
    # Whether every request gets a new sandbox, closed after its answer.
    fresh_vm: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        asked = f"{self.function_arn}:{self.alias}" if self.alias else self._version_arn
        tier = "" if self.isolation is Isolation.VM else f"@{self.isolation}"
        object.__setattr__(self, "invoked_arn", asked)
        object.__setattr__(self, "fresh_vm", self.tags.get(FRESH_VM_TAG) == "true")
        shared = "" if (most := self.instance_concurrency) == 1 else f"*{most}"
        object.__setattr__(self, "revision", f"{self.arn}#{self.revision_id}{tier}{shared}")

    @property
    def arn(self) -> str:
        """The ARN with the version."""
        return f"{self.function_arn}:{self.version}"

    @property
    def _version_arn(self) -> str:
        return self.function_arn if self.version == LATEST else self.arn

    @property
    def published(self) -> bool:
        return self.version != LATEST

    @property
    def instance_concurrency(self) -> int:
        """How many requests may be in one sandbox at once; one, where each gets a sandbox of its own."""
        return 1 if self.fresh_vm else int(self.tags.get(CONCURRENCY_TAG, "1"))

    @property
    def code_sha256(self) -> str:
        """Base64, as both dialects write it."""
        return base64.b64encode(bytes.fromhex(self.package_sha256)).decode()

    @property
    def last_modified(self) -> str:
        """ISO 8601 as AWS writes it: 2026-01-31T23:59:59.123+0000."""
        moment = datetime.fromtimestamp(self.modified_ms // 1000, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{self.modified_ms % 1000:03d}+0000"

    def workload(self) -> Workload:
        return Workload(
            tenant=self.tenant,
            function_name=self.name,
            version=self.version,
            # Not the alias: what is loaded, or saved, serves every name of the version.
            arn=self._version_arn,
            runtime=self.runtime,
            handler=self.handler,
            code=self.code,
            memory_mib=self.memory_mib,
            scratch_mib=self.scratch_mib,
            timeout_s=float(self.timeout_s),
            # What an SDK needs to find us; the function's own variables win.
            environment={**self.own_environment, **self.environment} if self.network else self.environment,
            network=self.network,
            logging=self.logging,
            revision=self.revision,
            concurrency=self.instance_concurrency,
            kernel=self.kernel,
        )


@dataclass(frozen=True, slots=True)
class FunctionChange:
    """A configuration, or a change to one: None leaves a field as it is (or at its default). ``layers`` are ARNs."""

    runtime: str | None = None
    handler: str | None = None
    memory_mib: int | None = None
    timeout_s: int | None = None
    environment: Mapping[str, str] | None = None
    description: str | None = None
    role: str | None = None
    isolation: str | None = None
    network: bool | None = None
    dead_letter: str | None = None
    layers: tuple[str, ...] | None = None
    scratch_mib: int | None = None
    logging: Logging | None = None


class InvokeOptions(TypedDict, total=False):
    """What may be said of an invocation. ``trace_id`` is what the caller sent; ``trace`` what it was made into, where
    that has been done. An answer that the function streams goes to ``sink``, where there is one.
    """

    trace_id: str
    client_context: str
    want_log: bool
    request_id: str
    sink: AnswerSink | None
    trace: TraceContext | None


class InvokeResult(msgspec.Struct, frozen=True):
    """An answered invocation.

    ``payload`` is the handler's answer, or the error document where ``error`` is set. ``start`` is
    how the sandbox came to be (``warm``, ``mounted``, ``restored``, ``booted``), ``why`` the reason
    in words.
    """

    payload: bytes
    error: Literal["Handled", "Unhandled"] | None
    request_id: str
    start: str
    why: str
    phases_ms: dict[str, float]
    billed_ms: int
    log_tail: bytes
    executed_version: str
    sandbox_id: str
    content_type: str = ""  # of an answer that the function streams
    trace: TraceContext | None = None
    streamed_bytes: int = 0


class FunctionResolver(Protocol):
    """What events and triggers need of ``functions.service.FunctionService``."""

    async def resolve(self, tenant: TenantId, name: str, version: str = LATEST) -> FunctionVersion:
        """Return what this name and version runs. Raises ``NotFound``."""
        ...


class DispatcherProtocol(Protocol):
    """What the control plane and the faces need of ``functions.dispatcher.Dispatcher``."""

    async def invoke(self, function: FunctionVersion, event: bytes, **options: Unpack[InvokeOptions]) -> InvokeResult:
        """An answer that the function streams goes to ``sink``, where there is one, and not into the result."""
        ...

    async def forget(self, function_arn: str, version: str | None) -> None:
        """Drain the instances of one version, or of all: they serve what they have, then end."""
        ...

    async def snapshot(self, function: FunctionVersion) -> None:
        """Save a published version after its init code has run."""
        ...

    async def remove(self, functions: Iterable[FunctionVersion]) -> None:
        """These versions are deleted: drop their snapshots and what concurrency they had set aside."""
        ...

    async def drop_snapshots(self, functions: Iterable[FunctionVersion]) -> None:
        """Remove the snapshots of versions that have another tier now."""
        ...

    def instances(self) -> list[dict[str, Any]]: ...
