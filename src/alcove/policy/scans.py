"""The automatic checks of code: beside deployment, one package at a time, each once.

What waits for them is what has no report yet (``store/scans.py``), so a crash loses nothing and there is no queue that
could grow. Until its report is there a package counts as not passed. Tenants take turns. A package that has brought
three attempts to an early end, its host's included, has failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from alcove.errors import AlcoveError, HostError, RequestError
from alcove.host.clock import now_ms
from alcove.host.files import UNFINISHED, instance_tag, private_folder, reap_unfinished
from alcove.host.threads import to_the_end
from alcove.images.code_zip import check_package as read_package
from alcove.policy import javascript
from alcove.policy.decide import CheckState
from alcove.policy.findings import Finding, Report, decode_report, report
from alcove.policy.package_check import check_package
from alcove.policy.rules import Checks
from alcove.policy.scan_jail import USER, ScanFailed, end_jailed, require_jail, run_jailed
from alcove.policy.scanners import bandit_version, tools_of
from alcove.policy.tool import Tool
from alcove.store import scans as rows
from alcove.store.database import Database

log = logging.getLogger(__name__)

# Change it when the same package must be checked anew.
FORMAT = 1
ATTEMPTS = 3
RETRY_S = 10.0


class Checker(Protocol):
    """Checks one package. ``digest`` names scanners and settings: another one's reports do not count."""

    digest: str

    def check(self, package: Path) -> Report:
        """Return what is found. For a thread. Raises ``HostError`` where this machine cannot check now."""
        ...

    def stop(self) -> None:
        """Bring the check that runs to an early end, whatever it returns then, and those that come. For a thread."""
        ...


class JailedChecker:
    """Unpacks a package in ``folder`` and has every scanner look at it, in the jail."""

    def __init__(self, folder: Path, checks: Checks) -> None:
        """Raises ``HostError`` where what the checks need is not installed."""
        require_jail()
        if not bandit_version():
            raise HostError("bandit is missing: Python cannot be checked", hint="pip install bandit")
        self._stopped = False
        self._folder = private_folder(folder)
        reap_unfinished(folder)
        self._tag = instance_tag(folder.parent)
        self._tools = tools_of(checks.scanners)
        if not javascript.installed():
            log.warning("JavaScript counts as unchecked: its scanner is not installed (%s)", javascript.INSTALL)
        scanner = javascript.source_digest() if javascript.installed() else ""
        parts = [str(FORMAT), bandit_version(), scanner, repr(checks.scanners)]
        self.digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def check(self, package: Path) -> Report:
        work = Path(tempfile.mkdtemp(dir=self._folder, prefix=UNFINISHED))
        try:
            checked = read_package(package.read_bytes())
            tree = work / "tree"
            tree.mkdir(mode=0o755)
            checked.unpack(tree, (USER, USER))
            covered = [pattern for tool in self._tools for pattern in tool.files]
            found = check_package(checked, tree, covered)
            for tool in self._tools:
                if tool.reads(tree):
                    found += self._scan(tool, tree)
            return report(found)
        except (ScanFailed, RequestError) as error:
            return Report(failed=str(error))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def stop(self) -> None:
        self._stopped = True
        end_jailed(self._tag)

    def _scan(self, tool: Tool, tree: Path) -> Sequence[Finding]:
        if self._stopped:
            raise ScanFailed("the server stops")
        return tool.read(run_jailed(self._tag, tool.command, tree, tool.needs))


class Scans:
    """``start`` to ``close``. ``package_path`` finds a package, ``decided`` is told of each that has its report."""

    def __init__(
        self,
        database: Database,
        checker: Checker,
        checks: Checks,
        package_path: Callable[[str], Path],
    ) -> None:
        self.decided: Callable[[str], Awaitable[None]] | None = None
        self._database = database
        self._checker = checker
        self._checks = checks
        self._package_path = package_path
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._tenant = ""

    def start(self) -> None:
        self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """A check that runs is ended; the next start does it again."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.to_thread(self._checker.stop)
            await asyncio.gather(self._worker, return_exceptions=True)

    def wake(self) -> None:
        """There may be something new to check."""
        self._changed.set()

    def verdict(self, connection: sqlite3.Connection, package_sha256: str) -> CheckState:
        """What is known of a package; runs inside ``Database.read`` or ``write``."""
        found = self.find(connection, package_sha256)
        return CheckState.WAITING if found is None else found.state(self._checks.severity)

    def find(self, connection: sqlite3.Connection, package_sha256: str) -> Report | None:
        row = rows.find_scan(connection, package_sha256, self._checker.digest)
        return None if row is None or not row.report else decode_report(row.report)

    async def look(self, package_sha256: str) -> tuple[CheckState, Report | None]:
        """Return the verdict on a package, and the report where there is one."""
        return await self._database.read(lambda c: (self.verdict(c, package_sha256), self.find(c, package_sha256)))

    async def _work(self) -> None:
        await self._insist(lambda: self._database.write(rows.forget_scans))
        while True:
            self._changed.clear()
            if not await self._insist(self._check_next):
                await self._changed.wait()

    async def _insist(self, work: Callable[[], Awaitable[bool | None]]) -> bool | None:
        while True:
            try:
                return await work()
            except (AlcoveError, OSError) as error:
                log.warning("code cannot be checked now: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _check_next(self) -> bool:
        """Check one package; return whether there was one."""
        digest = self._checker.digest
        found = await self._database.read(lambda c: rows.next_unscanned(c, digest, self._tenant))
        if found is None:
            return False
        self._tenant, package = found
        attempts = await self._database.write(lambda c: rows.begin_scan(c, package, digest, now_ms()))
        try:
            made = await self._check(package, attempts)
        except (asyncio.CancelledError, HostError):
            # Not the package's fault: it does not count.
            await self._note(package, attempts - 1, None)
            raise
        await self._note(package, attempts, made)
        if made is None:
            return True
        log.info("package %s: %s", package[:12], made.state(self._checks.severity))
        if self.decided is not None:
            await self.decided(package)
        return True

    async def _note(self, package: str, attempts: int, made: Report | None) -> None:
        row = rows.ScanRow(package, self._checker.digest, attempts, "" if made is None else made.encode(), now_ms())
        await self._database.write(lambda c: rows.put_scan(c, row))

    async def _check(self, package: str, attempts: int) -> Report | None:
        """Return the report, None where the package went with its last version meanwhile."""
        if attempts > ATTEMPTS:
            return Report(failed="the checks were cut short three times")
        try:
            return await to_the_end(self._checker.check, self._package_path(package))
        except FileNotFoundError:
            return None
