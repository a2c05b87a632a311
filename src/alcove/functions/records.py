"""Function versions as rows of the store, and how a change is applied to one. No I/O of its own."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from alcove.errors import Conflict, NotFound
from alcove.functions import limits, runtimes
from alcove.functions.isolation import IsolationPolicy
from alcove.functions.layering import layers_from_text, layers_to_text
from alcove.functions.model import LATEST, FunctionChange, FunctionVersion
from alcove.functions.statements import policy_revision
from alcove.host.clock import now_ms
from alcove.images.code import BuiltCode, CodeStore
from alcove.sandbox.protocol import CodeImage, Isolation, Logging, Runtime, TenantId
from alcove.store import functions as rows


class RevisionMismatch(Conflict):
    """The function was changed since the caller looked at it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decides. ``isolations``: the tiers that tenants may ask for."""

    region: str = "us-east-1"
    isolations: frozenset[Isolation] = frozenset({Isolation.VM})
    policy: IsolationPolicy = field(default_factory=IsolationPolicy)
    # What a function's sandboxes get in their environment beside what its tenant says, by the function's id.
    own_environment: Callable[[str], Mapping[str, str]] = lambda function_id: {}


@dataclass(frozen=True, slots=True)
class Records:
    """Knows what the rows leave out: the region, the folder of images, what is allowed."""

    settings: Settings
    code: CodeStore

    def find(self, connection: sqlite3.Connection, function: rows.FunctionRow, version: str) -> FunctionVersion:
        """Return that version of the function. Raises ``NotFound``."""
        row = rows.find_version(connection, function.id, version)
        if row is None:
            raise NotFound(f"Function not found: {self.arn(function)}:{version}")
        return self.from_row(function, row)

    def from_row(self, function: rows.FunctionRow, row: rows.VersionRow) -> FunctionVersion:
        return FunctionVersion(
            tenant=TenantId(function.tenant_id),
            function_id=function.id,
            name=function.name,
            version=row.version,
            function_arn=self.arn(function),
            runtime=runtimes.resolve(row.runtime_name),
            runtime_name=row.runtime_name,
            handler=row.handler,
            memory_mib=row.memory_mib,
            timeout_s=row.timeout_s,
            environment=json.loads(row.environment),
            description=row.description,
            role=row.role,
            isolation=Isolation(row.isolation),
            network=bool(row.network),
            code=CodeImage(row.image_digest, self.code.image_path(row.image_digest), row.layers != "[]"),
            package_sha256=row.package_sha256,
            package_bytes=row.package_bytes,
            revision_id=row.revision_id,
            modified_ms=row.modified_ms,
            dead_letter=row.dead_letter,
            tags=function.tags,
            layers=layers_from_text(row.layers),
            scratch_mib=row.scratch_mib,
            logging=Logging(row.log_format, row.log_level, row.system_log_level),
            asked=row.asked,
            cause=row.cause,
            reason=row.reason,
            kernel=row.kernel,
            own_environment=self.settings.own_environment(function.id),
        )

    def new(self, function: rows.FunctionRow, config: FunctionChange) -> FunctionVersion:
        """``$LATEST`` of a new function, without its code. Raises ``InvalidRequest``."""
        blank = FunctionVersion(
            tenant=TenantId(function.tenant_id),
            function_id=function.id,
            name=function.name,
            version=LATEST,
            function_arn=self.arn(function),
            runtime=Runtime.PROVIDED,
            runtime_name="",
            handler="",
            memory_mib=limits.DEFAULT_MEMORY_MIB,
            timeout_s=limits.DEFAULT_TIMEOUT_S,
            environment={},
            description="",
            role="",
            isolation=Isolation.VM,
            network=True,
            code=CodeImage("", self.code.folder),
            package_sha256="",
            package_bytes=0,
            revision_id=str(uuid.uuid4()),
            modified_ms=now_ms(),
            tags=function.tags,
            own_environment=self.settings.own_environment(function.id),
        )
        return self.apply(blank, replace(config, runtime=config.runtime or ""))

    def apply(self, version: FunctionVersion, change: FunctionChange) -> FunctionVersion:
        """Return the version with the change made and checked, except for its layers. Raises ``InvalidRequest``."""
        runtime_name = version.runtime_name if change.runtime is None else change.runtime
        runtime = runtimes.resolve(runtime_name)
        handler = version.handler if change.handler is None else change.handler
        changed = replace(
            version,
            runtime=runtime,
            runtime_name=runtime_name,
            handler=limits.check_handler(handler, runtime),
        )
        if change.memory_mib is not None:
            changed = replace(changed, memory_mib=limits.check_memory(change.memory_mib))
        if change.timeout_s is not None:
            changed = replace(changed, timeout_s=limits.check_timeout(change.timeout_s))
        if change.environment is not None:
            changed = replace(changed, environment=limits.check_environment(change.environment))
        if change.description is not None:
            changed = replace(changed, description=limits.check_description(change.description))
        if change.role is not None:
            changed = replace(changed, role=change.role[:256])
        if change.isolation is not None:
            changed = replace(changed, asked=limits.check_wish(change.isolation, self.settings.isolations))
        if change.network is not None:
            changed = replace(changed, network=change.network)
        if change.dead_letter is not None:
            changed = replace(changed, dead_letter=change.dead_letter)
        if change.logging is not None:
            changed = replace(changed, logging=limits.check_logging(change.logging))
        if change.scratch_mib is not None:
            changed = replace(changed, scratch_mib=limits.check_scratch(change.scratch_mib))
        return changed

    def with_code(self, version: FunctionVersion, built: BuiltCode) -> FunctionVersion:
        return replace(
            version,
            code=CodeImage(built.digest, built.path, bool(version.layers)),
            package_sha256=built.package_sha256,
            package_bytes=built.package_bytes,
        )

    def arn(self, function: rows.FunctionRow) -> str:
        region = self.settings.region
        return f"arn:aws:lambda:{region}:{function.tenant_id}:function:{function.name}"


def find_function(connection: sqlite3.Connection, tenant: TenantId, name: str) -> rows.FunctionRow:
    """Return the tenant's function of that name. Raises ``NotFound``."""
    function = rows.find_function(connection, tenant, name)
    if function is None:
        raise NotFound(f"Function not found: {name}", hint="`alcove fn list` shows what there is")
    return function


def to_row(version: FunctionVersion) -> rows.VersionRow:
    return rows.VersionRow(
        function_id=version.function_id,
        version=version.version,
        revision_id=version.revision_id,
        modified_ms=version.modified_ms,
        description=version.description,
        runtime_name=version.runtime_name,
        handler=version.handler,
        memory_mib=version.memory_mib,
        timeout_s=version.timeout_s,
        environment=json.dumps(dict(version.environment), sort_keys=True),
        role=version.role,
        isolation=version.isolation.value,
        network=int(version.network),
        package_sha256=version.package_sha256,
        package_bytes=version.package_bytes,
        image_digest=version.code.digest,
        dead_letter=version.dead_letter,
        layers=layers_to_text(version.layers),
        scratch_mib=version.scratch_mib,
        log_format=version.logging.format,
        log_level=version.logging.level,
        system_log_level=version.logging.system_level,
        asked=version.asked,
        cause=version.cause,
        reason=version.reason,
        kernel=version.kernel,
    )


def same_configuration(published: FunctionVersion, latest: FunctionVersion) -> bool:
    """Tell whether publishing ``latest`` again would make a copy of ``published``."""
    unlike = {"version": "", "revision_id": "", "description": "", "modified_ms": 0}
    unlike |= {"isolation": Isolation.VM, "cause": "", "reason": ""}
    return replace(published, **unlike) == replace(latest, **unlike)  # type: ignore[arg-type]


class Revised(Protocol):
    """What changes, and says at which revision it is."""

    @property
    def revision_id(self) -> str: ...


def check_revision(latest: Revised, revision_id: str | None) -> None:
    """Raises ``RevisionMismatch`` where a revision is asked for and ``latest`` is another one."""
    if revision_id and revision_id != latest.revision_id:
        raise RevisionMismatch(
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
        )


def check_policy_revision(text: str, revision_id: str | None) -> None:
    """Raises ``RevisionMismatch`` where a revision is asked for and the policy ``text`` has another one."""
    if revision_id and revision_id != policy_revision(text):
        raise RevisionMismatch(
            "The RevisionId provided does not match the latest RevisionId. "
            "Call the GetPolicy API to retrieve the latest RevisionId"
        )
