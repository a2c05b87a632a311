"""The scanner for JavaScript: eslint with eslint-plugin-security, of the versions that the lock file beside it names.

It is installed by npm, without running any package's scripts, beside the Python environment: ``alcove policy scanners
--install``, which ``make setup`` calls. Where it is not installed JavaScript counts as code that no scanner reads.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import msgspec

from alcove.errors import HostError
from alcove.host.files import UNFINISHED
from alcove.policy.findings import Finding, finding
from alcove.policy.rules import Severity
from alcove.policy.scan_jail import CODE, Ended, ScanFailed
from alcove.policy.tool import Tool

FOLDER = Path(sys.prefix) / "share/alcove/eslint"
FILES = ("*.js", "*.mjs", "*.cjs")
INSTALL = "alcove policy scanners --install"
_SOURCES = ("eslint.config.mjs", "format.mjs", "package-lock.json", "package.json")
_STAMP = ".digest"
_TIMEOUT_S = 600
# Less than the jail's cgroup has: eslint then says that it failed.
_HEAP_MIB = 1024
# By the rules' own names; eslint has no degrees of danger.
_SEVERITIES: dict[str, Severity] = {
    "no-eval": "high",
    "no-implied-eval": "high",
    "no-new-func": "high",
    "security/detect-bidi-characters": "high",
    "security/detect-child-process": "high",
    "security/detect-eval-with-expression": "high",
    "security/detect-object-injection": "low",
    "security/detect-possible-timing-attacks": "low",
}


class _Found(msgspec.Struct):
    file: str
    line: int
    rule: str
    text: str


def source_digest() -> str:
    """Return what tells this scanner from that of another release."""
    sources = files("alcove.policy") / "eslint"
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((sources / name).read_bytes())
    return digest.hexdigest()


def installed(folder: Path = FOLDER) -> bool:
    """Whether this release's scanner is there, and a Node.js to run it."""
    try:
        stamp = (folder / _STAMP).read_text()
    except OSError:
        return False
    return stamp == source_digest() and shutil.which("node") is not None


def install(folder: Path = FOLDER) -> None:
    """Install it; what is there already is left alone. Raises ``HostError``."""
    if installed(folder):
        return
    if shutil.which("npm") is None:
        raise HostError("npm is missing: the scanner for JavaScript cannot be installed", hint="apt-get install npm")
    work = folder.with_name(f"{UNFINISHED}{folder.name}")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for name in _SOURCES:
            (work / name).write_bytes((files("alcove.policy") / "eslint" / name).read_bytes())
        _npm(["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"], work)
        (work / _STAMP).write_text(source_digest())
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(work, folder)
    except OSError as error:
        raise HostError(f"{folder} cannot be made: {error}", hint="run as who owns Alcove's environment") from error


def _npm(arguments: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            ["npm", *arguments], cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise HostError("npm did not end", hint="check the network") from error
    if done.returncode:
        raise HostError(f"npm failed: {done.stderr.strip()[-500:]}", hint="check the network, or npm's configuration")


def eslint(folder: Path = FOLDER) -> Tool:
    """eslint, deaf to what the code says to it. Only where it is ``installed``."""
    node = Path(shutil.which("node") or "/usr/bin/node").resolve()
    command = (
        *(str(node), f"--max-old-space-size={_HEAP_MIB}", f"{folder}/node_modules/eslint/bin/eslint.js"),
        *("--config", f"{folder}/eslint.config.mjs", "--format", f"{folder}/format.mjs"),
        *("--no-error-on-unmatched-pattern", "."),
    )
    needs = (folder,) if node.is_relative_to("/usr") else (folder, node.parents[1])
    return Tool("eslint", FILES, command, needs, read_eslint)


def read_eslint(ended: Ended) -> list[Finding]:
    if ended.status not in (0, 1):
        raise ScanFailed(f"eslint ended with status {ended.status}")
    try:
        found = msgspec.json.decode(ended.output, type=list[_Found])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ScanFailed("eslint's output is not what it should be") from error
    return [
        finding(
            "eslint",
            one.rule,
            _SEVERITIES.get(one.rule, "medium"),
            one.file.removeprefix(f"{CODE}/"),
            one.text,
            one.line,
        )
        for one in found
    ]
