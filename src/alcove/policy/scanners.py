"""The scanners: bandit for Python, eslint for JavaScript (``javascript``), and those that the rules file names.

One that is named there follows a simple contract, which linters keep: it is run in ``/code``, exit status 0 means
nothing found, 1 that each line of its output is a finding, anything else that it failed.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from alcove.policy import javascript
from alcove.policy.findings import Finding, finding
from alcove.policy.rules import Scanner, Severity
from alcove.policy.scan_jail import CODE, Ended, ScanFailed
from alcove.policy.tool import Tool

_LINES = 100


class _BanditResult(msgspec.Struct):
    filename: str
    issue_severity: str
    issue_text: str
    line_number: int
    test_id: str


class _BanditError(msgspec.Struct):
    filename: str
    reason: str


class _BanditOutput(msgspec.Struct):
    results: list[_BanditResult]
    errors: list[_BanditError]


_SEVERITIES: dict[str, Severity] = {"LOW": "low", "MEDIUM": "medium", "HIGH": "high"}


def bandit() -> Tool:
    """bandit, deaf to what the code says to it: neither ``# nosec`` nor a ``.bandit`` file counts, and no folder is
    left out.
    """
    command = (
        *(sys.executable, "-I", "-B", "-m", "bandit", "--quiet", "--format", "json", "--ignore-nosec"),
        *("--ini", "/dev/null", "--exclude", "/nowhere", "--recursive", CODE),
    )
    return Tool("bandit", ("*.py",), command, (Path(sys.base_prefix), Path(sys.prefix)), read_bandit)


def read_bandit(ended: Ended) -> list[Finding]:
    if ended.status not in (0, 1):
        raise ScanFailed(f"bandit ended with status {ended.status}")
    try:
        output = msgspec.json.decode(ended.output, type=_BanditOutput)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ScanFailed("bandit's output is not what it should be") from error
    errors = [finding("bandit", "unreadable", "medium", _inside(one.filename), one.reason) for one in output.errors]
    return errors + [
        finding(
            "bandit",
            one.test_id,
            _SEVERITIES.get(one.issue_severity, "medium"),
            _inside(one.filename),
            one.issue_text,
            one.line_number,
        )
        for one in output.results
    ]


def named(scanner: Scanner) -> Tool:
    """A scanner of the rules file."""

    def read(ended: Ended) -> list[Finding]:
        if ended.status not in (0, 1):
            raise ScanFailed(f"{scanner.name} ended with status {ended.status}")
        if ended.status == 0:
            return []
        lines = [line for line in ended.output.decode(errors="replace").splitlines() if line.strip()]
        return [
            finding(scanner.name, "finding", scanner.severity, "", line)
            for line in lines[:_LINES] or ["something was found, which it does not name"]
        ]

    files = tuple(pattern.lower() for pattern in scanner.files)
    return Tool(scanner.name, files, scanner.command, tuple(map(Path, scanner.needs)), read)


def tools_of(scanners: Sequence[Scanner]) -> tuple[Tool, ...]:
    built_in = (bandit(), javascript.eslint()) if javascript.installed() else (bandit(),)
    return (*built_in, *map(named, scanners))


def bandit_version() -> str:
    """Return bandit's version, "" where it is not installed."""
    try:
        return importlib.metadata.version("bandit")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _inside(path: str) -> str:
    return path.removeprefix(f"{CODE}/")
