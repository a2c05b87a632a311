"""Each version's tier: what is known of it is put before the operator's rules, and the decision kept with it.

``judge`` is for what is being made: it refuses what a tenant may not ask for and what this machine cannot give.
``reconsider`` is for what is there: it takes what the rules say now, whatever that is. A version whose tier does not
work here is refused when it is called; no other takes its place.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from alcove.errors import HostError, InvalidRequest, NotFound
from alcove.functions import limits
from alcove.functions.model import LATEST, FunctionVersion
from alcove.images.kernels import Kernel
from alcove.policy.decide import CheckState, Decision, Facts, decide, demands
from alcove.policy.rules import Rules
from alcove.sandbox.protocol import Isolation, TenantId
from alcove.store import isolation as rows
from alcove.store.aliases import list_aliases

# Of one function; ``functions.aliases`` allows no more.
ALIAS_LIMIT = 1000
ISOLATION_TAG = "alcove:isolation"
KERNEL_TAG = "alcove:kernel"
POLICY_TAGS = (ISOLATION_TAG, KERNEL_TAG)

# What the automatic checks say of a package (hex SHA-256 of its zip).
Verdict = Callable[[sqlite3.Connection, str], CheckState]


def trust_all(connection: sqlite3.Connection, package_sha256: str) -> CheckState:
    return CheckState.PASSED


class Kernels(Protocol):
    """What is asked of ``images.kernels.KernelStore``. Both raise ``NotFound``."""

    def named(self, name: str) -> Kernel: ...

    def find(self, digest: str) -> Kernel: ...


class NoKernels:
    def named(self, name: str) -> Kernel:
        raise NotFound(f"there is no kernel {name[:64]!r}")

    find = named


@dataclass(frozen=True, slots=True)
class IsolationPolicy:
    """``tiers`` are those that work here; ``unavailable`` says of the others why not."""

    rules: Rules = field(default_factory=Rules)
    floor: Isolation = Isolation.PROCESS
    tiers: frozenset[Isolation] = frozenset({Isolation.VM})
    unavailable: Mapping[Isolation, str] = field(default_factory=dict)
    verdict: Verdict = trust_all
    kernels: Kernels = field(default_factory=NoKernels)

    def judge(self, connection: sqlite3.Connection, version: FunctionVersion, *, new_wish: bool) -> FunctionVersion:
        """Return the version with its tier and, for ``$LATEST``, the kernel that its tag names.

        Raises ``InvalidRequest`` for a new wish that would lower it, ``HostError`` where the tier that is demanded does
        not work here.
        """
        version = self._with_kernel(version)
        facts = self.facts(connection, version)
        if new_wish:
            self._check_wish(version, facts)
        found = decide(facts, self.rules)
        if found.isolation not in self.tiers:
            why = self.unavailable.get(found.isolation, "it is not offered")
            raise HostError(
                f"isolation {found.isolation} is demanded ({found.reason}) and does not work on this machine: {why}",
                hint="run: alcove doctor; tiers are offered with --isolation-allowed",
            )
        return decided(version, found)

    def _with_kernel(self, version: FunctionVersion) -> FunctionVersion:
        """A published version keeps the kernel that it was published with."""
        if version.published:
            return version
        name = version.tags.get(KERNEL_TAG, "none")
        try:
            return replace(version, kernel="" if name == "none" else self.kernels.named(name).digest)
        except NotFound as error:
            raise InvalidRequest(f"Tag {KERNEL_TAG!r}: {error}.", hint=error.hint) from error

    def _kernel_name(self, digest: str) -> str:
        try:
            return self.kernels.find(digest).name if digest else ""
        except NotFound:
            return digest[:12]

    def _check_wish(self, version: FunctionVersion, facts: Facts) -> None:
        """Raises ``InvalidRequest`` for a wish that would lower what is demanded for good."""
        tag = version.tags.get(ISOLATION_TAG)
        if tag is not None:
            limits.check_isolation(tag, self.tiers)
        lasting = replace(facts, checks=CheckState.PASSED, latest=False)
        found = decide(lasting, self.rules)
        for wish in (facts.asked, facts.operator):
            if wish is not None and wish.strength < found.isolation.strength:
                raise InvalidRequest(
                    f"Isolation {wish.value!r} is not allowed: {found.isolation.value!r} is demanded ({found.reason}).",
                    hint="a wish can only raise isolation; see: alcove policy explain FUNCTION",
                )

    def reconsider(self, connection: sqlite3.Connection, version: FunctionVersion) -> FunctionVersion:
        """Return the version with the tier that the rules give it now."""
        return decided(version, decide(self.facts(connection, version), self.rules))

    def explain(self, connection: sqlite3.Connection, version: FunctionVersion) -> Sequence[Decision]:
        """Every demand on the version, the strongest first: the first one holds."""
        found = list(demands(self.facts(connection, version), self.rules))
        return sorted(found, key=lambda one: -one.isolation.strength)

    def facts(self, connection: sqlite3.Connection, version: FunctionVersion) -> Facts:
        wish = version.tags.get(ISOLATION_TAG)
        return Facts(
            runtime=str(version.runtime),
            latest=version.version == LATEST,
            tenant=self._tenant(connection, version),
            tags=version.tags,
            environment=version.environment,
            aliases=tuple(
                alias.name for alias in list_aliases(connection, version.function_id, version.version, "", 1000)
            ),
            checks=self._checks(connection, version),
            kernel=self._kernel_name(version.kernel),
            disk_mib=version.scratch_mib if version.scratch_mib > limits.SCRATCH_MIB[0] else 0,
            floor=self.floor,
            tenant_floor=Isolation(rows.tenant_floor(connection, version.tenant) or Isolation.PROCESS),
            asked=Isolation(wish) if wish in set(Isolation) else None,
            operator=Isolation(version.asked) if version.asked else None,
        )

    # What no rule asks for is not looked up: at a start this is done for every version there is.

    def _tenant(self, connection: sqlite3.Connection, version: FunctionVersion) -> tuple[str, ...]:
        return () if self.rules.tenants is None else (version.tenant, rows.tenant_name(connection, version.tenant))

    def _aliases(self, connection: sqlite3.Connection, version: FunctionVersion) -> tuple[str, ...]:
        if self.rules.development is None or not self.rules.development.aliases:
            return ()
        found = list_aliases(connection, version.function_id, version.version, "", ALIAS_LIMIT)
        return tuple(alias.name for alias in found)

    def _checks(self, connection: sqlite3.Connection, version: FunctionVersion) -> CheckState:
        """Return what is known of the code and its layers: the first of them that has not passed."""
        if self.rules.checks is None:
            return CheckState.PASSED
        packages = [version.package_sha256, *(layer.package_sha256 for layer in version.layers)]
        states = (self.verdict(connection, package) for package in packages)
        return next((state for state in states if state is not CheckState.PASSED), CheckState.PASSED)

    def document(self) -> dict[str, object]:
        """The rules in force, for people."""
        return {
            "rules": json.loads(_encode(self.rules)),
            "floor": str(self.floor),
            "tiers": sorted(self.tiers),
            "unavailable": {str(tier): why for tier, why in self.unavailable.items()},
        }


def decided(version: FunctionVersion, found: Decision) -> FunctionVersion:
    return replace(version, isolation=found.isolation, cause=str(found.case), reason=found.reason)


def raise_floor(connection: sqlite3.Connection, tenant: TenantId, floor: Isolation, *, operator: bool) -> None:
    """Set the tenant's floor; a tenant itself can only raise it."""
    known = Isolation(rows.tenant_floor(connection, tenant) or Isolation.PROCESS)
    if not operator and floor.strength < known.strength:
        raise InvalidRequest(f"The floor is {known} and can only be raised.", hint="ask the operator to lower it")
    rows.set_tenant_floor(connection, tenant, floor)


def _encode(rules: Rules) -> bytes:
    import msgspec

    return msgspec.json.encode(rules)
