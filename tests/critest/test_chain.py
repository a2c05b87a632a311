"""The chain by ``ctr``: containerd, our shim, the node service, a machine, crun in it."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.critest.chain import Chain

pytestmark = pytest.mark.machine

# Busybox, and above it a layer with a file.
IMAGE = "registry.test/k8s-staging-cri-tools/test-image-1:latest"
RUNTIME = "io.containerd.alcove.v2"
BOOT = "cat /proc/sys/kernel/random/boot_id"
WAIT = "trap 'exit 7' TERM; while :; do sleep 0.1; done"
TERMINAL = "test -t 0 && test -t 1 && echo a terminal || echo no terminal"


class Ctr:
    """``ctr`` of the chain's containerd, in a namespace of its own."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.command = ["/usr/bin/ctr", "--address", str(chain.containerd.socket), "-n", "chain"]

    def __call__(self, *words: str, code: int = 0) -> str:
        """Return what it prints; ``code`` is how it ends."""
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, timeout=100)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def run(self, *words: str, pod: str | None = None, kind: str = "container", code: int = 0) -> str:
        """Run a container: ``words`` are its options and its name, ``--``, and its shell's words."""
        options = ["run", "--runtime", RUNTIME]
        if pod is not None:
            options += ["--annotation", f"io.kubernetes.cri.sandbox-id={pod}"]
            options += ["--annotation", f"io.kubernetes.cri.container-type={kind}"]
        (*flags, name), command = words[: words.index("--")], words[words.index("--") + 1 :]
        return self(*options, *flags, IMAGE, name, "sh", "-c", *command, code=code)

    def echo(self, *words: str) -> None:
        """Run what says what it is told, to the end of its input."""
        with subprocess.Popen([*self.command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"words\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"words\n"
            # Only now does ctr tell of an end: before, it may not know its task yet.
            process.stdin.close()
            assert process.stdout.read() == b""
        assert process.returncode == 0

    def end(self, name: str) -> None:
        """Kill and remove a container."""
        subprocess.run([*self.command, "tasks", "delete", "--force", name], capture_output=True)
        subprocess.run([*self.command, "containers", "delete", name], capture_output=True)


@pytest.fixture(scope="module")
def ctr(chain: Chain) -> Ctr:
    ctr = Ctr(chain)
    ctr("images", "pull", "--hosts-dir", str(chain.containerd.folder / "certs.d"), IMAGE)
    return ctr


@contextmanager
def machine_of(ctr: Ctr, pod: str) -> Iterator[None]:
    """Have a sandbox; afterwards its machine is gone."""
    try:
        ctr.run("--detach", pod, "--", "true", pod=pod, kind="sandbox")
        machines = ctr.chain.machines()
        assert list(machines) == [pod]
        yield
        assert ctr.chain.machines() == machines
    finally:
        ctr.end(pod)
    deadline = time.monotonic() + 30
    while ctr.chain.machines() or Path(f"/proc/{machines[pod]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_container_alone_has_a_machine_of_its_own(ctr: Ctr) -> None:
    printed = ctr.run("--rm", "alone", "--", "uname -r; cat /mark; exit 4", code=4).splitlines()
    assert printed[0] != os.uname().release
    assert printed[1:] == ["image 1"]
    ctr.echo("run", "--rm", "--runtime", RUNTIME, IMAGE, "reads", "cat")


def test_containers_come_and_go_in_one_machine(ctr: Ctr) -> None:
    with machine_of(ctr, "pod"):
        first = ctr.run("--rm", "one", "--", f"{BOOT}; touch /left", pod="pod")
        ctr.run("--detach", "two", "--", WAIT, pod="pod")
        try:
            # Restarted: the same machine, another root.
            again = ctr.run("--rm", "one", "--", f"{BOOT}; test ! -e /left", pod="pod")
            beside = ctr("tasks", "exec", "--exec-id", "beside", "two", "sh", "-c", BOOT)
            assert first == again == beside
            execute = ("tasks", "exec", "--exec-id")
            assert ctr(*execute, "e1", "two", "sh", "-c", f"{TERMINAL}; exit 3", code=3) == "no terminal\n"
            ctr.echo(*execute, "e2", "two", "cat")
            printed, code = at_a_terminal([*ctr.command, *execute, "e3", "--tty", "two", "sh"], f"{TERMINAL}\nexit 5\n")
            assert "# a terminal\r" in printed
            assert code == 5
            ctr("tasks", "kill", "--signal", "SIGTERM", "two")
            await_end(ctr, "two")
            deleted = subprocess.run([*ctr.command, "tasks", "delete", "two"], capture_output=True, check=True)
            assert b"exit code 7" in deleted.stderr
        finally:
            ctr.end("two")


def at_a_terminal(command: list[str], typed: str) -> tuple[str, int]:
    """Run a command at a terminal where this is typed; return what is seen there, and the command's end."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = b""
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:
            # Nobody has its other end open any more.
            pass
        os.close(ours)
    return seen.decode(), process.returncode


def await_end(ctr: Ctr, name: str) -> None:
    deadline = time.monotonic() + 30
    while any(line.split()[0] == name and line.endswith("RUNNING") for line in ctr("tasks", "ls").splitlines()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
