"""``runsc`` as containerd's shim has it: the command line, the sandbox's limits, and who waits for a member's end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.shim import gvisor

_GLOBALS = st.sampled_from(
    [["--root", "/r"], ["--log=/b/log.json"], ["--debug"], ["--systemd-cgroup"], ["--log-format", "json"]]
)
# Stands for runsc: a container's life in files of the folder where it is asked.
_FAKE = """\
#!/bin/sh
for word; do last=$word; done
cd "$FAKE"
case " $* " in
*" create "*) touch "$last" ;;
*" start nothing "*) exit 128 ;;
*" start "*) echo started; sleep 0.1; touch "$last.started" ;;
*" wait "*) [ -e "$last.started" ] || exit 128; sleep 0.1; echo '{"id": "x", "exitStatus": 7}' ;;
*" kill gone "*) echo "sandbox is not running" >&2; exit 128 ;;
*" kill "*) echo "cannot signal" >&2; exit 128 ;;
*" delete "*) rm -f "$last" ;;
*) echo "$@" ;;
esac
"""


@given(st.lists(_GLOBALS), st.sampled_from(["create", "start", "ps"]), st.lists(st.text("-ab", min_size=1)))
def test_a_command_line_is_put_together_as_it_came(options: list[list[str]], action: str, rest: list[str]) -> None:
    words = [word for option in options for word in option]
    command = gvisor.Command([*words, action, *rest])
    assert (command.globals, command.action, command.rest) == (words, action, rest)
    assert command.argv()[-len(words) - 1 - len(rest) :] == [*words, action, *rest]


def test_a_sandbox_may_take_what_its_containers_may() -> None:
    spec: dict[str, Any] = {
        "annotations": {
            "io.kubernetes.cri.sandbox-memory": str(64 << 20),
            "io.kubernetes.cri.sandbox-cpu-quota": "50000",
            "io.kubernetes.cri.sandbox-cpu-period": "100000",
        }
    }
    gvisor.limit(spec)
    assert spec["linux"]["resources"] == {
        "memory": {"limit": (64 << 20) + (96 << 20)},
        "cpu": {"quota": 50000, "period": 100000},
    }
    unlimited: dict[str, Any] = {"annotations": {"io.kubernetes.cri.sandbox-memory": "0"}}
    gvisor.limit(unlimited)
    assert unlimited["linux"]["resources"] == {}


@pytest.fixture
def runsc(tmp_path: Path) -> Any:
    """Run our program with another in runsc's place, for a member's bundle; return what it printed."""
    fake, bundle = tmp_path / "runsc", tmp_path / "member"
    fake.write_text(_FAKE)
    fake.chmod(0o755)
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps({"annotations": {gvisor._KIND: "container"}}))
    code = (
        "import sys\nfrom alcove.shim import gvisor\n"
        f"gvisor.PROGRAM, gvisor._HIDING, gvisor._ENVIRONMENT = {str(fake)!r}, (), "
        f"{{'FAKE': {str(tmp_path)!r}, 'PATH': '/bin:/usr/bin'}}\ngvisor.main(sys.argv[1:])"
    )

    def run(*words: str, output: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", code, "--log", str(bundle / "log.json"), *words]
        return subprocess.run(argv, stdout=output, stderr=output, text=True, check=False, timeout=20)

    run.bundle = bundle  # type: ignore[attr-defined]
    return run


def _reap(bundle: Path) -> int:
    """Return how the process that is told as the container's ended: it is ours, as it is a shim's."""
    pid = int((bundle / "init.pid").read_text())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def subreaper() -> Any:
    import ctypes

    libc = ctypes.CDLL(None)
    assert libc.prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    yield
    libc.prctl(36, 0, 0, 0, 0)


def test_a_member_ends_as_its_container_and_has_the_streams_it_was_made_with(runsc: Any, subreaper: Any) -> None:
    reader, writer = os.pipe()
    assert runsc("create", "--pid-file", str(runsc.bundle / "init.pid"), "c", output=writer).returncode == 0
    os.close(writer)
    assert runsc("start", "c").stdout == ""
    # Not those that it is started with.
    assert os.read(reader, 100) == b"started\n"
    assert _reap(runsc.bundle) == 7
    os.close(reader)


def test_a_member_that_is_deleted_before_it_was_started_ends(runsc: Any, subreaper: Any) -> None:
    assert runsc("create", "--pid-file", str(runsc.bundle / "init.pid"), "c", output=subprocess.DEVNULL).returncode == 0
    assert runsc("delete", "c").returncode == 0
    assert _reap(runsc.bundle) == 137


def test_a_terminal_is_held_by_runsc_alone(runsc: Any, subreaper: Any) -> None:
    """Who makes the container waits for the end of what is printed, which is nothing."""
    made = runsc("create", "--pid-file", str(runsc.bundle / "init.pid"), "--console-socket", "/s", "c")
    assert (made.returncode, made.stdout) == (0, "")
    assert runsc("start", "c").returncode == 0
    assert _reap(runsc.bundle) == 7


def test_what_has_ended_is_said_in_runcs_words(runsc: Any) -> None:
    killed = runsc("kill", "gone", "9")
    assert (killed.returncode, killed.stderr) == (128, "container not running")


def test_a_member_that_could_not_be_started_is_gone(runsc: Any, subreaper: Any) -> None:
    made = runsc("create", "--pid-file", str(runsc.bundle / "init.pid"), "nothing", output=subprocess.DEVNULL)
    assert (made.returncode, runsc("start", "nothing").returncode) == (0, 128)
    assert _reap(runsc.bundle) == 137
    assert runsc("kill", "nothing", "9").stderr == "container not running"


def test_one_that_cannot_be_killed_is_not_said_to_have_ended(runsc: Any) -> None:
    (runsc.bundle / "init.pid").write_text(str(os.getpid()))
    assert runsc("kill", "c", "9").stderr == "cannot signal\n"


def test_all_else_is_handed_on(runsc: Any) -> None:
    assert runsc("ps", "--format", "json", "c").stdout.split()[-4:] == ["ps", "--format", "json", "c"]
