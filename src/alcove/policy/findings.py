"""What automatic checks found in a package, and what that says of it."""

from __future__ import annotations

import msgspec

from alcove.policy.decide import CheckState
from alcove.policy.rules import SEVERITIES, Severity

# A package with more is flagged by these as well as by all.
FINDING_LIMIT = 200
TEXT_LIMIT = 300


class Finding(msgspec.Struct, frozen=True):
    """``rule`` is the scanner's own name for it; ``file`` is the path in the package."""

    scanner: str
    rule: str
    severity: Severity
    file: str
    line: int
    text: str


class Report(msgspec.Struct, frozen=True):
    """``failed`` says why the checks could not be done, "" where they were."""

    findings: tuple[Finding, ...] = ()
    failed: str = ""

    def state(self, threshold: Severity) -> CheckState:
        if self.failed:
            return CheckState.FAILED
        flagged = any(SEVERITIES.index(one.severity) >= SEVERITIES.index(threshold) for one in self.findings)
        return CheckState.FLAGGED if flagged else CheckState.PASSED

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()


def decode_report(text: str) -> Report:
    return msgspec.json.decode(text, type=Report)


def finding(scanner: str, rule: str, severity: Severity, file: str, text: str, line: int = 0) -> Finding:
    """A finding whose texts, a stranger's, are short and printable."""
    return Finding(
        scanner, _plain(rule, 80), severity, _plain(file, TEXT_LIMIT), max(0, line), _plain(text, TEXT_LIMIT)
    )


def report(findings: list[Finding]) -> Report:
    """The worst first, and not without end."""
    ordered = sorted(findings, key=lambda one: (-SEVERITIES.index(one.severity), one.file, one.line))
    return Report(tuple(ordered[:FINDING_LIMIT]))


def _plain(text: str, limit: int) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:limit])
