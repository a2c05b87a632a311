"""Families of guest images: one for the languages that everybody has, one for each that few have and that is large.

A newcomer builds the first alone; another is built when a function first needs it, or by ``alcove image build
--runtime``. Each is a whole image of its own: kernel, agent, everything of the first, and its language.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from alcove.images.guest_packages import ENVIRONMENT, PACKAGES, run
from alcove.images.guest_root import MODULES

_PHP = ("php8.2-cli", "php8.2-curl", "php8.2-mbstring", "php8.2-xml")
JAVA_HOME = "usr/lib/jvm/java-17-openjdk-amd64"
# A pod's guest runs no function: it has no language but the agent's, and no client programs.
_NOT_FOR_PODS = frozenset({"curl", "gawk", "nodejs"})
# Each after what it needs: containers' root file systems, shared folders, containers' quotas, bridges that containers
# make, NFS.
POD_MODULES = (
    *("overlay", "fuse", "virtiofs"),
    *("quota_tree", "quota_v2"),
    *("llc", "stp", "bridge"),
    *("netfs", "fscache", "sunrpc", "grace", "lockd", "dns_resolver", "nfs_acl", "nfs", "nfsv3", "nfsv4"),
)
_COMPILER = "jdk.compiler/com.sun.tools.javac.Main"
# One "+/path" a line: the certificates that Debian's own script would give it.
_CERTIFICATES = "find /usr/share/ca-certificates -name '*.crt' | sort | sed 's/^/+/'"
_STORE_JAR = "/usr/share/ca-certificates-java/ca-certificates-java.jar"
_STORE = "mkdir -p /etc/ssl/certs/java && {find} | /{java}/bin/java -Xmx64m -jar {jar} -storepass changeit >/dev/null"


class Family(StrEnum):
    """``folder`` is where its images are, below the folder of images; ``packages`` and kernel ``modules`` are what is
    in them.
    """

    BASE = "base"
    JAVA = "java"
    PHP = "php"
    POD = "pod"

    @property
    def folder(self) -> str:
        return "guest" if self is Family.BASE else f"guest-{self}"

    @property
    def packages(self) -> tuple[str, ...]:
        if self is Family.POD:
            return (*(name for name in PACKAGES if name not in _NOT_FOR_PODS), "crun")
        return PACKAGES + {Family.JAVA: ("openjdk-17-jre-headless",), Family.PHP: _PHP}.get(self, ())

    @property
    def modules(self) -> tuple[str, ...]:
        return MODULES + (POD_MODULES if self is Family.POD else ())

    @property
    def program(self) -> str:
        """The module whose ``main`` is PID 1."""
        return "alcove.guest.pod" if self is Family.POD else "alcove.guest.agent"


def finish_base(root: Path, family: Family, progress: Callable[[str], None]) -> None:
    """Do what the maintainer scripts of the family's packages would have done and its functions need."""
    if family is Family.PHP:
        (root / "usr/bin/php").symlink_to("php8.2")
    elif family is Family.JAVA:
        (root / "usr/bin/java").symlink_to(f"/{JAVA_HOME}/bin/java")
        progress("writing Java's certificates")
        script = _STORE.format(find=_CERTIFICATES, java=JAVA_HOME, jar=_STORE_JAR)
        run_inside(root, ["/bin/sh", "-c", script], what="writing Java's certificates")


def add_runtime(root: Path, family: Family) -> None:
    """Make the family's runtime ready to run where its sources need that."""
    if family is Family.JAVA:
        sources = "/opt/alcove/alcove/guest/runtimes/java/alcove/*.java"
        script = f"/{JAVA_HOME}/bin/java -Xmx256m -m {_COMPILER} -nowarn -d /opt/alcove/java {sources}"
        run_inside(root, ["/bin/sh", "-c", script], what="compiling the Java runtime")


def run_inside(root: Path, argv: list[str], *, what: str) -> None:
    """Run a program of the image's, with a /proc that goes with it."""
    inside = f'mount -t proc proc "{root}/proc" && exec chroot "{root}" {shlex.join(argv)}'
    run(["unshare", "--mount", "--", "/bin/sh", "-c", inside], what=what, hint="Building the guest image needs root.",
        extra={"PATH": ENVIRONMENT["PATH"]})  # fmt: skip
