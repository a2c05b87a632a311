"""Which tier a version runs in, and why: a pure function of what is known of it and of the operator's rules.

Each of the paper's five cases that is met demands a tier, as do the floors, the tenant's own wish and the rules'
default; the strongest demand holds. So nothing that is added can lower it. The operator's word on one function stands
in for what the rules say of its kind (cases 1 and 3, and the default), never for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from alcove.policy.rules import Rules, first_match, first_pair
from alcove.sandbox.protocol import Isolation


class Case(StrEnum):
    """What demanded a tier: the paper's cases, in its order, and what holds beside them."""

    DEVELOPMENT = "development"
    CHECKS = "checks"
    LANGUAGE = "language"
    TENANT = "tenant"
    KERNEL = "kernel"
    DISK = "disk"
    FLOOR = "floor"
    REQUEST = "request"
    OPERATOR = "operator"
    DEFAULT = "default"

    @property
    def number(self) -> int | None:
        """The paper's number of the case."""
        return list(Case).index(self) + 1 if self in _PAPER else None


_PAPER = (Case.DEVELOPMENT, Case.CHECKS, Case.LANGUAGE, Case.TENANT, Case.KERNEL)


class CheckState(StrEnum):
    """What the automatic checks say of a package. Only ``passed`` is trusted."""

    PASSED = "passed"
    WAITING = "waiting"
    FLAGGED = "flagged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a version. ``asked`` is the tenant's wish, ``operator`` the operator's word on this function."""

    runtime: str
    latest: bool = False
    tenant: tuple[str, ...] = ()  # its id and name
    tags: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    checks: CheckState = CheckState.PASSED
    kernel: str = ""
    disk_mib: int = 0  # the quota of /tmp where that is more than a container has
    floor: Isolation = Isolation.PROCESS
    tenant_floor: Isolation = Isolation.PROCESS
    asked: Isolation | None = None
    operator: Isolation | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A tier, the case that demanded it, and the reason in words."""

    isolation: Isolation
    case: Case
    reason: str


def decide(facts: Facts, rules: Rules) -> Decision:
    """Return the strongest demand; of equal ones, the first of ``demands``."""
    return max(demands(facts, rules), key=lambda one: one.isolation.strength)


def demands(facts: Facts, rules: Rules) -> Iterator[Decision]:
    """Every demand that is met, what says most first."""
    if facts.kernel:
        yield Decision(Isolation.VM, Case.KERNEL, f"it runs its own kernel, {facts.kernel}")
    if facts.disk_mib:
        yield Decision(Isolation.VM, Case.DISK, f"its /tmp of {facts.disk_mib} MB is a disk, which only a machine has")
    if rules.checks is not None and facts.checks is not CheckState.PASSED:
        yield Decision(rules.checks.isolation, Case.CHECKS, _CHECKS[facts.checks])
    if rules.tenants is not None and first_match(rules.tenants.names, facts.tenant):
        yield Decision(rules.tenants.isolation, Case.TENANT, "its tenant has isolation of its own")
    if facts.operator is None:
        yield from _by_kind(facts, rules)
    for floor, whose in ((facts.floor, "the operator's"), (facts.tenant_floor, "the tenant's")):
        if floor is not Isolation.PROCESS:
            yield Decision(floor, Case.FLOOR, f"{whose} floor is {floor}")
    if facts.asked is not None:
        yield Decision(facts.asked, Case.REQUEST, f"the tag alcove:isolation asks for {facts.asked}")
    if facts.operator is not None:
        yield Decision(facts.operator, Case.OPERATOR, f"the operator chose {facts.operator} for this function")
    else:
        yield Decision(rules.default, Case.DEFAULT, f"the rules' default is {rules.default}")


_CHECKS = {
    CheckState.WAITING: "its code waits for the automatic checks",
    CheckState.FLAGGED: "the automatic checks flagged its code",
    CheckState.FAILED: "the automatic checks could not be done on its code",
}


def _by_kind(facts: Facts, rules: Rules) -> Iterator[Decision]:
    why = _development(facts, rules)
    if rules.development is not None and why:
        yield Decision(rules.development.isolation, Case.DEVELOPMENT, f"development or test code: {why}")
    if rules.languages is not None and not first_match(rules.languages.safe, (facts.runtime,)):
        yield Decision(rules.languages.isolation, Case.LANGUAGE, f"{facts.runtime} has no safe sandbox of its own")


def _development(facts: Facts, rules: Rules) -> str:
    """Return what shows development or test code, "" where nothing does."""
    section = rules.development
    if section is None:
        return ""
    if section.latest and facts.latest:
        return "it is not a published version"
    for kind, patterns, pairs in (
        ("tag", section.tags, facts.tags),
        ("variable", section.environment, facts.environment),
    ):
        found = first_pair(patterns, pairs)
        if found:
            return f"the {kind} {found}"
    found = first_match(section.aliases, facts.aliases)
    return f"the alias {found}" if found else ""
