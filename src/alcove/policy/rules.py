"""The operator's isolation rules: the sections of the rules file, and how their patterns match.

Patterns are those of the shell (``*``, ``?``), without regard to case. A section that is absent is a case that is
never met; built in is that everything runs in a VM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from alcove.sandbox.protocol import Isolation

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")


class Development(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Case 1. ``tags`` and ``environment`` are patterns NAME=VALUE; ``latest``: what is not published counts too."""

    isolation: Isolation = Isolation.VM
    latest: bool = False
    tags: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class Scanner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scanner beside those built in: ``files`` are the names that it reads, ``needs`` folders that it must see."""

    name: str
    files: tuple[str, ...]
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    severity: Severity = "medium"


class Checks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Case 2. Findings of ``severity`` or worse flag the code."""

    isolation: Isolation = Isolation.VM
    severity: Severity = "medium"
    scanners: tuple[Scanner, ...] = ()


class Languages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Case 3: every runtime but those that match ``safe``, so that a new one is not trusted by accident."""

    isolation: Isolation = Isolation.VM
    safe: tuple[str, ...] = ()


class Tenants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Case 4: tenants by name or id."""

    isolation: Isolation = Isolation.VM
    names: tuple[str, ...] = ()


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator has decided. Case 5, an own kernel, needs no rule: only a VM has one."""

    default: Isolation = Isolation.VM
    development: Development | None = None
    checks: Checks | None = None
    languages: Languages | None = None
    tenants: Tenants | None = None

    def tiers(self) -> set[Isolation]:
        """Every tier that the rules name."""
        sections = (self.development, self.checks, self.languages, self.tenants)
        return {self.default, *(section.isolation for section in sections if section is not None)}


def first_match(patterns: Iterable[str], names: Iterable[str]) -> str:
    """Return the first of the names that a pattern matches, "" where there is none."""
    lowered = [pattern.lower() for pattern in patterns]
    return next((name for name in names if any(fnmatchcase(name.lower(), one) for one in lowered)), "")


def first_pair(patterns: Iterable[str], pairs: Mapping[str, str]) -> str:
    """As ``first_match``, of NAME=VALUE. The value is not shown where it may be a secret: the pattern is."""
    for pattern in patterns:
        name, _, value = pattern.lower().partition("=")
        for key, found in pairs.items():
            if fnmatchcase(key.lower(), name) and fnmatchcase(found.lower(), value):
                return pattern
    return ""
