"""Hostile packages before the real scanner, in its real jail."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from alcove.host.cgroup import Cgroup
from alcove.host.files import instance_tag
from alcove.policy.decide import CheckState
from alcove.policy.findings import Report
from alcove.policy.rules import Checks, Scanner
from alcove.policy.scans import JailedChecker

pytestmark = pytest.mark.machine


def checked(folder: Path, files: dict[str, bytes], *scanners: Scanner) -> Report:
    package = folder / "p.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    package.write_bytes(buffer.getvalue())
    report = JailedChecker(folder / "checks", Checks(scanners=scanners)).check(package)
    assert list((folder / "checks").iterdir()) == []
    assert "s-checks" not in Cgroup.list_children(instance_tag(folder))
    Cgroup.remove_parent(instance_tag(folder))
    return report


EVIL = b"import subprocess\ndef handler(event, context):\n    subprocess.call(event, shell=True)  # nosec\n"


def test_code_cannot_talk_the_scanner_out_of_it(tmp_path: Path) -> None:
    files = {
        ".bandit": b"[bandit]\nexclude: /code\nskips: B602\n",
        "pyproject.toml": b'[tool.bandit]\nexclude_dirs = ["/code"]\n',
        ".git/app.py": EVIL,
        "bandit.py": b"raise SystemExit(0)\n",
        "sitecustomize.py": b"raise SystemExit(0)\n",
    }
    report = checked(tmp_path, files)
    assert report.state("high") is CheckState.FLAGGED
    assert ("B602", ".git/app.py", 3) in {(one.rule, one.file, one.line) for one in report.findings}


def test_harmless_code_passes(tmp_path: Path) -> None:
    report = checked(tmp_path, {"app.py": b"def handler(event, context):\n    return event\n"})
    assert report == Report()


def test_what_cannot_be_parsed_has_not_passed(tmp_path: Path) -> None:
    for source in (b"def (", b"(" * 100_000, b"x = 1\0"):
        assert checked(tmp_path, {"app.py": source}).state("medium") is not CheckState.PASSED


def test_a_scanner_that_is_taken_over_sees_and_reaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    script = (
        f"test ! -e {tmp_path}/secret && test ! -e /etc/passwd && test ! -w /code && test ! -w /usr"
        " && test $(id -u) != 0 && ! ls /code/../proc/1 && test $(ls /dev | wc -l) -lt 20"
        f" && ! kill -9 {os.getpid()} && ! mount -t tmpfs none /tmp"
        " && ! exec 3<>/dev/tcp/127.0.0.1/22 && echo held && exit 1; exit 3"
    )
    scanner = Scanner("probe", ("*.txt",), ("/bin/bash", "-c", script))
    report = checked(tmp_path, {"a.txt": b"x"}, scanner)
    assert [one.text for one in report.findings] == ["held"], report


def test_a_scanner_that_forks_without_end_takes_nothing_else_with_it(tmp_path: Path) -> None:
    scanner = Scanner("bomb", ("*.txt",), ("/bin/bash", "-c", "f() { f | f & }; f; sleep 1; exit 0"))
    checked(tmp_path, {"a.txt": b"x"}, scanner)


EVIL_JS = b'const { exec } = require("child_process");\nexports.handler = async (event) => exec(event.command);\n'


def test_javascript_is_read(tmp_path: Path) -> None:
    """Both kinds of modules, in every folder; findings have their places."""
    files = {
        "app.js": EVIL_JS,
        "module.mjs": b"export const handler = async (event) => eval(event.code);\n",
        "node_modules/dep/index.cjs": b"module.exports = new Function('return 1');\n",
        "sloppy.js": b"with (Math) { var x = 010; }\nreturn eval('x');\n",
        "LOUD.JS": b"eval('1');\n",
    }
    report = checked(tmp_path, files)
    assert report.state("high") is CheckState.FLAGGED, report
    assert {
        ("security/detect-child-process", "app.js", 2),
        ("no-eval", "module.mjs", 1),
        ("no-new-func", "node_modules/dep/index.cjs", 1),
        ("no-eval", "sloppy.js", 2),
        ("no-eval", "LOUD.JS", 1),
    } <= {(one.rule, one.file, one.line) for one in report.findings}


def test_harmless_javascript_passes(tmp_path: Path) -> None:
    files = {
        "app.mjs": b'import { part } from "./lib/part.js";\nexport const handler = async (event) => part(event);\n',
        "lib/part.js": b"#!/usr/bin/env node\nexports.part = (event) => ({ ok: true, name: event.name });\n",
        "package.json": b'{"name": "fine"}',
    }
    report = checked(tmp_path, files)
    assert report.state("medium") is CheckState.PASSED, report
    assert report.failed == ""


def test_javascript_cannot_talk_its_scanner_out_of_it(tmp_path: Path) -> None:
    silence = b"/* eslint-disable */\n// eslint-disable-next-line\n/* eslint no-eval: 0 */\n"
    config = b'throw new Error("read");\nexport default [{ ignores: ["**/*"] }];\n'
    files = {
        "app.js": silence + b"exports.handler = (event) => eval(event.code);\n",
        ".git/hidden.js": b"eval('1');\n",
        "eslint.config.js": config,
        "eslint.config.mjs": config,
        ".eslintrc.json": b'{"root": true, "ignorePatterns": ["**/*"]}',
        ".eslintignore": b"*\n",
        "package.json": b'{"type": "module", "eslintConfig": {"root": true}, "eslintIgnore": ["*"]}',
        "node_modules/eslint-plugin-security/index.js": b"export default { configs: { recommended: {} } };\n",
        "node_modules/espree/index.js": b"export const parse = () => ({});\n",
        # Many of a harmless kind do not hide the one that is not.
        "noise.js": b"exports.f = (a, b) => {\n" + b"  a[b] = 1;\n" * 20_000 + b"};\n",
    }
    report = checked(tmp_path, files)
    found = {(one.rule, one.file, one.line) for one in report.findings}
    assert {("no-eval", "app.js", 4), ("no-eval", ".git/hidden.js", 1)} <= found, report


@pytest.mark.parametrize(
    "source",
    [
        b'require("./payload.txt");',
        b'import "../lib/data.bin";',
        b'import("data:text/javascript,process.exit()");',
        b"exports.handler = (event) => import(event.name);",
        b"exports.handler = (event) => require(event.name);",
        b'require("node:vm").runInThisContext("1");',
        b"setTimeout('process.exit()', 1);",
        b"globalThis['eval']('1');",
        b"global.eval('1');",
        b"(0, eval)('1');",
        b'import { exec } from "node:child_process";\nexport const handler = (event) => exec(event.command);',
    ],
)
def test_code_that_no_scanner_reads_is_not_run_unseen(tmp_path: Path, source: bytes) -> None:
    report = checked(tmp_path, {"app.js": source, "payload.txt": EVIL_JS})
    assert report.state("medium") is CheckState.FLAGGED, report


def test_javascript_that_cannot_be_parsed_has_not_passed(tmp_path: Path) -> None:
    for source in (b"function (", b"(" * 100_000, b"x = 1\0", b"\xff\xfe\x00"):
        assert checked(tmp_path, {"app.js": source}).state("medium") is not CheckState.PASSED, source[:10]
