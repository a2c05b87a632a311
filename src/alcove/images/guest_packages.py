"""Debian packages for the guest image, fetched without touching the host's own package state.

apt runs with private state, cache and an empty dpkg status, so that it resolves the full closure of what we
name; it verifies signatures and hashes with the host's keyrings. Nothing is installed: packages are unpacked
into a folder and their maintainer scripts never run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alcove.errors import HostError

SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
KERNEL = "linux-image-cloud-amd64"
# The userland of the guest; apt adds their dependencies.
PACKAGES = (
    "base-files", "bash", "busybox-static", "ca-certificates", "coreutils", "curl", "dash",
    "debianutils", "e2fsprogs", "findutils", "gawk", "grep", "gzip", "libc-bin", "libstdc++6",
    "netbase", "nodejs", "python3.11", "sed", "tar", "tzdata", "util-linux",
)  # fmt: skip
# Dependencies that only maintainer scripts need.
LEFT_OUT = frozenset({"debconf", "dpkg", "perl-base", "cdebconf", "passwd", "install-info", "logsave", "mount"})
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
               "DEBIAN_FRONTEND": "noninteractive"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """One package as fetched; ``file`` is the name of its archive."""

    name: str
    version: str
    sha256: str
    file: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def need(program: str, package: str) -> str:
    """Return the program's path, or raise ``HostError`` naming the package that brings it."""
    path = shutil.which(program, path=ENVIRONMENT["PATH"])
    if path is None:
        raise HostError(f"{program} is not installed", hint=f"Install it: apt install {package}")
    return path


def run(
    argv: Sequence[str], *, what: str, hint: str, cwd: Path | None = None, extra: dict[str, str] | None = None
) -> str:
    """Run a build step and return its output; a failure is a ``HostError`` with the end of its messages."""
    environment = {**ENVIRONMENT, **_proxies(), **(extra or {})}
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise HostError(f"{what}: {error}", hint=hint) from error
    if done.returncode == 0:
        return done.stdout
    output = (done.stderr + done.stdout).strip()
    tail = "\n".join(output.splitlines()[-6:])
    if "No space left" in output or "not have enough free space" in output:
        hint = "The disk is full: free some space (about 1 GiB is needed) and try again."
    raise HostError(f"{what} failed (exit {done.returncode}): {tail}", hint=hint)


def _proxies() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {name: os.environ[name] for name in names if name in os.environ}


class Apt:
    """A private apt under ``folder``; sources come from the host's Debian source list alone."""

    def __init__(self, folder: Path, progress: Callable[[str], None]) -> None:
        need("apt-get", "apt")
        need("dpkg-deb", "dpkg")
        sources = next((path for path in SOURCES if path.exists()), None)
        if sources is None:
            raise HostError("no Debian package source is configured",
                            hint="Write /etc/apt/sources.list.d/debian.sources.")  # fmt: skip
        # apt reads what is relative from the root.
        self.folder = folder = folder.absolute()
        self.progress = progress
        self.archives = folder / "cache" / "archives"
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        options = {
            "Dir::State": folder,
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "APT::Install-Recommends": "false",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        self.config = folder / "apt.conf"
        self.config.write_text("".join(f'{key} "{value}";\n' for key, value in options.items()))

    def fetch(self, wanted: Sequence[str] = PACKAGES) -> list[Package]:
        """Fetch the closure of ``wanted``, and the kernel; return them sorted by name."""
        self.progress("asking the Debian mirror for the newest package lists")
        self._apt("apt-get", "update", "--error-on=any")
        kernel = self._kernel()
        self.progress("downloading Debian packages")
        self._apt("apt-get", "install", "-y", "--download-only", "--no-install-recommends", *wanted)
        self._apt("apt-get", "download", kernel, cwd=self.archives)
        packages = [_describe(path) for path in sorted(self.archives.glob("*.deb"))]
        return sorted((p for p in packages if p.name not in LEFT_OUT), key=lambda p: p.name)

    def _kernel(self) -> str:
        shown = self._apt("apt-cache", "show", "--no-all-versions", KERNEL)
        for line in shown.splitlines():
            if line.startswith("Depends:"):
                return line.removeprefix("Depends:").split(",")[0].split("(")[0].strip()
        raise HostError(f"{KERNEL} names no kernel", hint="Is the mirror a Debian 12 mirror?")

    def _apt(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        return run(
            [program, *arguments], cwd=cwd, what=f"{program} {arguments[0]}", extra={"APT_CONFIG": str(self.config)},
            hint="Is the network up and the Debian mirror reachable? Try: apt-get update",
        )  # fmt: skip


def _describe(path: Path) -> Package:
    fields = run(["dpkg-deb", "-f", str(path), "Package", "Version"], what=f"reading {path.name}",
                 hint="The download is damaged: build again.")  # fmt: skip
    values = dict(line.split(": ", 1) for line in fields.splitlines() if ": " in line)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Package(values["Package"], values["Version"], digest, path.name)


def unpack(archive: Path, root: Path) -> None:
    """Unpack a package's files into ``root``, through the links of a merged /usr."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE, env=ENVIRONMENT) as source:
        run_tar = subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root],
            stdin=source.stdout, capture_output=True, text=True, env=ENVIRONMENT,
        )  # fmt: skip
    if run_tar.returncode or source.returncode:
        hint = "Free some disk space." if "No space" in run_tar.stderr else "Build again; the download may be damaged."
        raise HostError(f"unpacking {archive.name} failed: {run_tar.stderr.strip()[-400:]}", hint=hint)
