"""Automatic checks: what is found without a scanner, how scanners are understood, and the worker over a fake one."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeTier
from tests.parity.conftest import zipped

from alcove.api.app import App
from alcove.cli.app import root
from alcove.composition import open_services
from alcove.errors import HostError
from alcove.functions.layering import LayerName
from alcove.functions.layers import LayerFacts
from alcove.functions.model import FunctionChange
from alcove.images.code_zip import check_package as read_package
from alcove.policy import javascript
from alcove.policy.decide import CheckState
from alcove.policy.findings import FINDING_LIMIT, Report, decode_report, finding, report
from alcove.policy.javascript import read_eslint
from alcove.policy.package_check import check_package
from alcove.policy.rules import Scanner
from alcove.policy.scan_jail import Ended, ScanFailed, jail_command
from alcove.policy.scanners import named, read_bandit
from alcove.sandbox.protocol import Isolation, Tier
from alcove.services import Services
from alcove.settings import Settings

RULES = 'default = "process"\n[checks]\n'
PYTHON = FunctionChange(runtime="python3.11", handler="echo")


class FakeChecker:
    """Says of each package what its bytes are told to mean: ``bad``, ``broken`` or fine. Waits while ``held``."""

    digest = "fake"

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.host_error = 0
        self.begun = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def check(self, package: Path) -> Report:
        self.begun.set()
        self.free.wait(10)
        if self.host_error:
            self.host_error -= 1
            raise HostError("no cgroup now")
        with zipfile.ZipFile(package) as archive:
            text = archive.read("app.py").decode()
        self.checked.append(text)
        if text == "bad":
            return report([finding("fake", "R1", "high", "app.py", "it is bad", 3)])
        return Report(failed="it broke") if text == "broken" else Report()

    def stop(self) -> None:
        self.free.set()


@asynccontextmanager
async def serving(folder: Path, checker: FakeChecker, rules: str = RULES) -> AsyncIterator[Services]:
    (folder / "rules.toml").write_text(rules)
    async with AsyncExitStack() as stack:
        settings = Settings(state=folder / "state", isolation_rules=str(folder / "rules.toml"))
        tiers: dict[Isolation, Tier] = {tier: FakeTier(tier) for tier in Isolation}
        services = await open_services(stack, settings, tiers, checker=checker)
        await services.functions.recover()
        await services.start(stack)
        yield services


async def until(services: Services, name: str, *wanted: CheckState) -> CheckState:
    function = await services.functions.get(services.tenants.default.id, name)
    assert services.scans is not None
    while True:
        state, _ = await services.scans.look(function.package_sha256)
        if state in wanted:
            await services.database.write(lambda connection: None)
            return state
        await asyncio.sleep(0.01)


async def tier_of(services: Services, name: str) -> tuple[Isolation, str]:
    for _ in range(200):
        found = await services.functions.get(services.tenants.default.id, name)
        if found.cause != "checks" or found.reason != "its code waits for the automatic checks":
            break
        await asyncio.sleep(0.01)
    return found.isolation, found.cause


async def test_a_version_is_in_a_vm_until_its_code_has_passed(tmp_path: Path) -> None:
    checker = FakeChecker()
    checker.free.clear()
    async with serving(tmp_path, checker) as services:
        tenant = services.tenants.default.id
        made = await services.functions.create(tenant, "f", zipped({"app.py": b"fine"}), PYTHON)
        assert (made.isolation, made.cause) == (Isolation.VM, "checks")
        first = await services.dispatcher.invoke(made, b"1")
        checker.free.set()
        await until(services, "f", CheckState.PASSED)
        assert await tier_of(services, "f") == (Isolation.PROCESS, "default")
        second = await services.dispatcher.invoke(await services.functions.get(tenant, "f"), b"1")
        assert first.sandbox_id != second.sandbox_id


@pytest.mark.parametrize(("text", "state"), [(b"bad", CheckState.FLAGGED), (b"broken", CheckState.FAILED)])
async def test_what_did_not_pass_stays_in_a_vm(tmp_path: Path, text: bytes, state: CheckState) -> None:
    async with serving(tmp_path, FakeChecker()) as services:
        await services.functions.create(services.tenants.default.id, "f", zipped({"app.py": text}), PYTHON)
        await until(services, "f", state)
        assert await tier_of(services, "f") == (Isolation.VM, "checks")


async def test_a_package_is_checked_once_whoever_has_it(tmp_path: Path) -> None:
    checker = FakeChecker()
    async with serving(tmp_path, checker) as services:
        other = await services.tenants.create("other")
        for tenant in (services.tenants.default.id, other.id):
            for name in ("f", "g"):
                await services.functions.create(tenant, name, zipped({"app.py": b"fine"}), PYTHON)
        await until(services, "g", CheckState.PASSED)
    async with serving(tmp_path, checker) as services:
        assert await tier_of(services, "g") == (Isolation.PROCESS, "default")
    assert checker.checked == ["fine"]


async def test_a_check_that_was_cut_short_is_done_by_the_next_start(tmp_path: Path) -> None:
    checker = FakeChecker()
    checker.free.clear()
    async with serving(tmp_path, checker) as services:
        await services.functions.create(services.tenants.default.id, "f", zipped({"app.py": b"bad"}), PYTHON)
        assert await asyncio.to_thread(checker.begun.wait, 10)
        checker.host_error = 1  # the check that is cut short ends without a report
    async with serving(tmp_path, checker) as services:
        await until(services, "f", CheckState.FLAGGED)


async def test_a_package_that_kills_the_server_fails_after_three_attempts(tmp_path: Path) -> None:
    checker = FakeChecker()
    checker.free.clear()
    async with serving(tmp_path, checker) as services:
        made = await services.functions.create(services.tenants.default.id, "f", zipped({"app.py": b"fine"}), PYTHON)
        assert await asyncio.to_thread(checker.begun.wait, 10)
        checker.host_error = 1
    async with AsyncExitStack() as stack:
        from alcove.store.database import Database
        from alcove.store.scans import begin_scan

        database = await Database.open(tmp_path / "state" / "alcove.db")
        stack.push_async_callback(database.close)
        for attempt in (1, 2, 3):
            found = await database.write(lambda c: begin_scan(c, made.package_sha256, "fake", 0))
            assert found == attempt
    async with serving(tmp_path, checker) as services:
        await until(services, "f", CheckState.FAILED)
        assert checker.checked == []


async def test_a_package_that_went_meanwhile_is_checked_when_it_comes_again(tmp_path: Path) -> None:
    checker = FakeChecker()
    checker.free.clear()
    async with serving(tmp_path, checker) as services:
        tenant, package = services.tenants.default.id, zipped({"app.py": b"fine"})
        await services.functions.create(tenant, "f", package, PYTHON)
        assert await asyncio.to_thread(checker.begun.wait, 10)
        await services.functions.delete(tenant, "f")
        checker.free.set()
        await services.functions.create(tenant, "f", package, PYTHON)
        await until(services, "f", CheckState.PASSED)


async def test_tenants_take_turns(tmp_path: Path) -> None:
    checker = FakeChecker()
    checker.free.clear()
    async with serving(tmp_path, checker) as services:
        other = await services.tenants.create("other")
        for number in range(4):
            await services.functions.create(
                services.tenants.default.id, f"f{number}", zipped({"app.py": b"mine %d" % number}), PYTHON
            )
        await services.functions.create(other.id, "f", zipped({"app.py": b"theirs"}), PYTHON)
        checker.free.set()
        await until(services, "f3", CheckState.PASSED)
    assert "theirs" in checker.checked[:3]


async def test_a_layer_is_checked_with_the_code(tmp_path: Path) -> None:
    checker = FakeChecker()
    async with serving(tmp_path, checker) as services:
        tenant = services.tenants.default.id
        name = LayerName(tenant, "l")
        good = await services.layers.publish(tenant, name, zipped({"app.py": b"fine layer"}), LayerFacts())
        bad = await services.layers.publish(tenant, name, zipped({"app.py": b"bad"}), LayerFacts())
        await services.functions.create(tenant, "f", zipped({"app.py": b"fine"}), replace(PYTHON, layers=(good.arn,)))
        await until(services, "f", CheckState.PASSED)
        assert await tier_of(services, "f") == (Isolation.PROCESS, "default")
        await services.functions.update_configuration(tenant, "f", FunctionChange(layers=(bad.arn,)))
        assert await tier_of(services, "f") == (Isolation.VM, "checks")
        assert (await services.functions.get(tenant, "f")).reason == "the automatic checks flagged its code"


async def test_without_the_case_nothing_is_checked(tmp_path: Path) -> None:
    checker = FakeChecker()
    async with serving(tmp_path, checker, 'default = "process"\n') as services:
        made = await services.functions.create(services.tenants.default.id, "f", zipped({"app.py": b"bad"}), PYTHON)
        assert (made.isolation, services.scans) == (Isolation.PROCESS, None)


def found_in(tmp_path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> set[tuple[str, str, str]]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (0o100644 | (modes or {}).get(name, 0)) << 16
            archive.writestr(info, data)
    package = read_package(buffer.getvalue())
    package.unpack(tmp_path)
    return {(one.rule, one.severity, one.file) for one in check_package(package, tmp_path, ["*.py"])}


def test_what_is_found_without_a_scanner(tmp_path: Path) -> None:
    files = {
        "app.py": b"x = 1\n",
        "lib/fast.so": b"\x7fELF....",
        "hidden.py": b"MZ not python",
        "mod.pyc": b"\x00\x00",
        "index.js": b"eval(1)",
        "bootstrap": b"#!/bin/sh\n",
        "sh": b"text",
        "empty": b"",
    }
    assert found_in(tmp_path, files, {"sh": 0o4755}) == {
        ("native-code", "medium", "lib/fast.so"),
        ("native-code", "medium", "hidden.py"),
        ("compiled-python", "medium", "mod.pyc"),
        ("unchecked", "medium", "index.js"),
        ("unchecked", "medium", "bootstrap"),
        ("setuid", "high", "sh"),
    }


def bandit_says(**changes: object) -> bytes:
    result = {
        "filename": "/code/a.py",
        "issue_severity": "HIGH",
        "issue_text": "bad\n\x1b[31m",
        "line_number": 3,
        "test_id": "B602",
    }
    return json.dumps({"results": [{**result, **changes}], "errors": [], "metrics": {}}).encode()


def test_bandits_output_is_understood() -> None:
    (one,) = read_bandit(Ended(1, bandit_says()))
    assert (one.rule, one.severity, one.file, one.line, one.text) == ("B602", "high", "a.py", 3, "bad  [31m")


@pytest.mark.parametrize(
    "ended",
    [Ended(2, b"{}"), Ended(-9, b""), Ended(1, b""), Ended(0, b"{}"), Ended(1, bandit_says(line_number="x"))],
)
def test_what_is_no_result_is_a_failure(ended: Ended) -> None:
    with pytest.raises(ScanFailed):
        read_bandit(ended)


@given(st.binary(max_size=300))
def test_whatever_bandit_prints_is_findings_or_a_failure(output: bytes) -> None:
    try:
        found = read_bandit(Ended(1, output))
    except ScanFailed:
        found = []
    assert isinstance(found, list)


def test_a_named_scanner_speaks_by_its_status() -> None:
    tool = named(Scanner("lint", ("*.JS",), ("/opt/lint",), severity="high"))
    assert tool.files == ("*.js",)
    assert tool.read(Ended(0, b"noise")) == []
    assert [one.text for one in tool.read(Ended(1, b"a\n\nb\n"))] == ["a", "b"]
    assert len(tool.read(Ended(1, b""))) == 1
    with pytest.raises(ScanFailed):
        tool.read(Ended(2, b""))


def test_a_report_is_bounded_and_has_the_worst_first() -> None:
    many = [finding("s", "low", "low", "f", "t") for _ in range(2 * FINDING_LIMIT)]
    found = report([*many, finding("s", "r" * 999, "high", "f" * 9999, "t" * 9999)])
    assert len(found.findings) == FINDING_LIMIT
    assert found.findings[0].severity == "high"
    assert len(found.encode()) < 100_000
    assert decode_report(found.encode()) == found
    assert (found.state("high"), Report().state("low")) == (CheckState.FLAGGED, CheckState.PASSED)
    assert report(many).state("medium") is CheckState.PASSED


def test_the_jail_has_no_network_no_capabilities_and_only_what_is_named() -> None:
    argv = jail_command(["/opt/lint", "."], Path("/state/tree"), [Path("/opt/scan/lint")])
    text = " ".join(argv)
    assert "--unshare-net" in argv
    assert "--cap-drop ALL" in text
    assert "--ro-bind /state/tree /code" in text
    assert "--perms 0755 --dir /opt --perms 0755 --dir /opt/scan --ro-bind /opt/scan/lint /opt/scan/lint" in text
    assert "--no-new-privs" in argv
    assert argv[-2:] == ["/opt/lint", "."]
    assert argv.count("--bind") == 0


class Stands:
    """The host that a face asks."""

    def health(self) -> dict[str, str]:
        return {}

    def endpoint(self) -> str:
        return ""


async def test_findings_are_shown_at_the_shell(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeChecker()) as services, AsyncExitStack() as stack:
        tenant = services.tenants.default.id
        layer = await services.layers.publish(tenant, LayerName(tenant, "l"), zipped({"app.py": b"bad"}), LayerFacts())
        await services.functions.create(tenant, "f", zipped({"app.py": b"x"}), replace(PYTHON, layers=(layer.arn,)))
        assert await tier_of(services, "f") == (Isolation.VM, "checks")
        app = App(Stands(), services)
        server = app.server()
        stack.push_async_callback(server.close, 1.0)
        await server.listen_unix(tmp_path / "api.sock")
        words = ["fn", "show", "f", "--findings", "--run", str(tmp_path)]
        result = await asyncio.to_thread(CliRunner().invoke, root, words)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[0] == "f:$LATEST: flagged"
        assert result.stdout.splitlines()[-1].split("\t") == ["high", "fake", "R1", "l:1 app.py:3", "it is bad"]


def eslint_says(**changes: object) -> bytes:
    one = {"file": "/code/lib/a.js", "line": 3, "rule": "no-eval", "text": "eval\n\x1b[31m"}
    return json.dumps([{**one, **changes}]).encode()


def test_eslints_output_is_understood() -> None:
    (one,) = read_eslint(Ended(1, eslint_says()))
    assert (one.rule, one.severity, one.file, one.line, one.text) == ("no-eval", "high", "lib/a.js", 3, "eval  [31m")
    (one,) = read_eslint(Ended(0, eslint_says(rule="security/detect-object-injection")))
    assert one.severity == "low"
    (one,) = read_eslint(Ended(1, eslint_says(rule="unreadable")))
    assert one.severity == "medium"


@pytest.mark.parametrize("ended", [Ended(2, b"[]"), Ended(-9, b""), Ended(1, b""), Ended(1, eslint_says(line="x"))])
def test_what_is_no_result_of_eslints_is_a_failure(ended: Ended) -> None:
    with pytest.raises(ScanFailed):
        read_eslint(ended)


@given(st.binary(max_size=300))
def test_whatever_eslint_prints_is_findings_or_a_failure(output: bytes) -> None:
    try:
        found = read_eslint(Ended(1, output))
    except ScanFailed:
        found = []
    assert isinstance(found, list)


def npm_that(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("npm", "node"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")


def test_the_scanner_is_installed_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "share" / "eslint"
    npm_that(tmp_path, "echo no network >&2; exit 1", monkeypatch)
    with pytest.raises(HostError, match="no network"):
        javascript.install(folder)
    assert not javascript.installed(folder)
    npm_that(tmp_path, 'echo "$@" > called; mkdir node_modules', monkeypatch)
    javascript.install(folder)
    assert javascript.installed(folder)
    assert "--ignore-scripts" in (folder / "called").read_text()
    (folder / "called").unlink()
    javascript.install(folder)
    assert not (folder / "called").exists(), "what is there is left alone"
    # Of another release: it does not count, and is replaced.
    (folder / ".digest").write_text("other")
    assert not javascript.installed(folder)
    javascript.install(folder)
    assert (folder / "called").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["eslint"]


def test_a_node_that_lies_elsewhere_is_seen_in_the_jail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm_that(tmp_path, "true", monkeypatch)
    tool = javascript.eslint(Path("/opt/scan"))
    assert tool.command[0] == f"{tmp_path}/bin/node"
    assert set(tool.needs) == {Path("/opt/scan"), tmp_path}


def test_names_are_compared_without_regard_to_case(tmp_path: Path) -> None:
    tool = javascript.eslint(Path("/opt/scan"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("")
    assert not tool.reads(tmp_path)
    (tmp_path / "deep" / "A.Js").write_text("")
    assert tool.reads(tmp_path)
