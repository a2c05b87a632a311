"""What of the host a pod may be shown: the account, and the jail of who shows it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import CapacityError, InvalidRequest
from alcove.host.process import ProcessIdentity
from alcove.pods import share_jail
from alcove.pods.model import HOST_PATHS, Defaults, PodSpec, parse_spec
from alcove.pods.shares import MOST_SHARES, Share, Shares

SERVER = ProcessIdentity(1, 2, "boot")
DATA = Share("/srv/data", read_only=True, recursive=True, follows=False)


@pytest.mark.parametrize(
    ("defaults", "annotations", "allowed"),
    [
        (Defaults(), {}, False),
        (Defaults(), {HOST_PATHS: "yes"}, False),
        (Defaults(), {HOST_PATHS: "true"}, True),
        (Defaults(host_paths=True), {}, True),
    ],
)
def test_who_may_be_shown_the_hosts_folders(defaults: Defaults, annotations: dict[str, str], allowed: bool) -> None:
    spec = parse_spec({"pod": "a", "namespace": "n", "annotations": annotations}, defaults)
    assert PodSpec.from_json(spec.to_json()).host_paths is allowed


def test_a_share_is_read_only_throughout_unless_more_is_asked_for() -> None:
    assert Share.parse({"source": "/srv/data"}) == DATA


@pytest.mark.parametrize("wrong", [None, "srv", "/a\0b", "/" * 5000, ["/srv"]])
def test_what_is_no_path_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest):
        Share.parse({"source": wrong})


def test_shares_are_known_by_name_and_bounded() -> None:
    with pytest.raises(InvalidRequest, match="may not see"):
        Shares().add("data", DATA)
    shares = Shares(SERVER)
    shares.add("data", DATA)
    shares.add("data", DATA)
    for name, share in (("data", Share("/etc", True, True, False)), ("../data", DATA), ("", DATA)):
        with pytest.raises(InvalidRequest):
            shares.add(name, share)
    for number in range(MOST_SHARES - 1):
        shares.add(f"n{number}", DATA)
    with pytest.raises(CapacityError):
        shares.add("more", DATA)
    assert len(shares.folders) == MOST_SHARES
    with pytest.raises(InvalidRequest, match="/none"):
        Shares(SERVER, folders={"gone": Share("/none", True, True, False)}).show("gone")


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.builds(Share, st.text(), st.booleans(), st.booleans(), st.booleans())
    ),
    st.dictionaries(st.sampled_from(["a", "b"]), st.tuples(st.integers(0), st.integers(0))),
)
def test_the_account_is_read_as_it_was_written(folders: dict[str, Share], shown: dict[str, tuple[int, int]]) -> None:
    shares = Shares(SERVER, folders=folders, shown=shown)
    assert Shares.from_json(shares.to_json()) == shares


# In a process of its own: what it forbids itself, it cannot take back.
FILTERED = """
import errno, os, sys
sys.path.insert(0, sys.argv[1])
import share_jail
os.chdir(sys.argv[2])
open("file", "w").close()
share_jail._forbid_privileges()
for line in sys.argv[3:]:
    try:
        exec(line)
        print("done")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


def test_files_with_privileges_are_not_made(tmp_path: Path) -> None:
    lines = {
        "os.chmod('file', 0o4755)": "EPERM",
        "os.chmod('file', 0o2755)": "EPERM",
        "os.fchmod(os.open('file', os.O_RDWR), 0o4700)": "EPERM",
        "os.open('made', os.O_CREAT | os.O_WRONLY, 0o4755)": "EPERM",
        "os.mknod('node', 0o104755)": "EPERM",
        "os.chmod('file', 0o1755)": "done",
        "os.close(os.open('plain', os.O_CREAT | os.O_WRONLY, 0o644))": "done",
        "os.mkdir('folder', 0o755)": "done",
    }
    argv = [sys.executable, "-I", "-c", FILTERED, str(Path(share_jail.__file__).parent), str(tmp_path), *lines]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert dict(zip(lines, done.stdout.split(), strict=True)) == lines


def test_the_filter_is_of_this_machine() -> None:
    code = share_jail.privilege_filter(platform.machine())
    assert len(code) % 8 == 0
    with pytest.raises(KeyError):
        share_jail.privilege_filter("unheard-of")


def test_the_jails_programs_import_the_standard_library_alone(tmp_path: Path) -> None:
    argv: list[Any] = [sys.executable, "-I", "-S", share_jail.__file__, "insert", "-1", "-1", "x", "folder"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "setns" in done.stderr
