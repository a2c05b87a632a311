"""Which accelerator really works here.

On nested and para-virtualised hosts /dev/kvm opens, KVM_CREATE_VM succeeds, and a stock kernel still hangs or QEMU
aborts. So the probe boots the guest's own kernel under KVM until it reports that it finds no root disk: by then it
has set up paging, timers and interrupts. The answer is remembered for this boot of the host, for this QEMU and this
kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from alcove.host.files import private_folder, write_json
from alcove.host.process import boot_id
from alcove.vmm.jail import PROGRAM
from alcove.vmm.spec import AcceleratorKind

DEADLINE_S = 15.0
_REACHED = "VFS: Unable to mount root fs"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The accelerator to use, why, and what the probe saw."""

    kind: AcceleratorKind
    reason: str
    seen: list[str] = field(default_factory=list)
    cached: bool = False


def probe(state: Path, kernel: Path | None = None, *, fresh: bool = False) -> Accelerator:
    """Return what works, from the cache of this boot unless ``fresh``. ``kernel`` defaults to the newest guest
    image's.
    """
    kernel = kernel or _newest_kernel(state)
    if not PROGRAM.exists():
        return Accelerator(AcceleratorKind.TCG, "QEMU is not installed, so nothing could be tried")
    question = {"boot": boot_id(), "kernel": str(kernel), "qemu": PROGRAM.stat().st_mtime_ns}
    cache = private_folder(state) / "accelerator.json"
    if not fresh:
        try:
            known = json.loads(cache.read_text())
            if known["question"] == question:
                return Accelerator(AcceleratorKind(known["kind"]), known["reason"], known["seen"], True)
        except (OSError, ValueError, KeyError):
            pass
    found = _probe(kernel)
    if kernel is not None:
        write_json(
            cache,
            {"question": question, "kind": found.kind, "reason": found.reason, "seen": found.seen},
        )
    return found


def _newest_kernel(state: Path) -> Path | None:
    kernels = list((state / "images" / "guest").glob("*/vmlinuz"))
    return max(kernels, key=lambda path: path.stat().st_mtime, default=None)


def _probe(kernel: Path | None) -> Accelerator:
    tcg = AcceleratorKind.TCG
    if not os.path.exists("/dev/kvm"):
        return Accelerator(tcg, "/dev/kvm does not exist")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Accelerator(tcg, "/dev/kvm is not ours to open")
    if kernel is None:
        return Accelerator(tcg, "/dev/kvm is there, but no guest kernel is built yet to try it with")
    argv = [
        str(PROGRAM), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M", "-serial", "stdio",
        "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1",
    ]  # fmt: skip
    began = time.monotonic()
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = child.communicate(timeout=DEADLINE_S)
        ended = f"QEMU ended with status {child.returncode}"
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        ended = f"nothing more within {DEADLINE_S:.0f} s"
    text = output.decode(errors="replace")
    seen = [line.strip() for line in text.splitlines() if line.strip()][-5:]
    seen.append(f"{ended}, after {time.monotonic() - began:.1f} s")
    if _REACHED in text:
        return Accelerator(AcceleratorKind.KVM, "a guest kernel booted under KVM", seen)
    return Accelerator(tcg, f"/dev/kvm opens, but a guest kernel does not boot under it: {ended}", seen)
