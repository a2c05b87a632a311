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
