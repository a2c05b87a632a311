"""One folder becomes one squashfs file, by mksquashfs: a process of its own with bounds.

Everything that overlayfs goes by is kept: owners, modes, device nodes (whiteouts among them), hard links, and the
attributes ``trusted.``, ``security.`` and ``user.``. Times are kept to the second, which is all that squashfs has. The
file depends on the folder alone. Nothing is compressed: reading costs no guest processor time, and the host's page
cache serves all guests.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from alcove.errors import CapacityError, HostError, TooLarge
from alcove.images.layer_folder import LayerLimits

_OPTIONS = (
    *("-noI", "-noD", "-noF", "-noX", "-xattrs", "-mkfs-time", "0", "-no-progress", "-quiet"),
    # What cannot be read ends the build, instead of becoming an empty file.
    *("-exit-on-error", "-processors", "2", "-mem", "128M"),
    # As for code: a mount and the first read take fewer requests.
    *("-no-fragments", "-no-exports"),
)
# What the file may be larger than its files: tables for each entry.
_OVERHEAD = 64 << 20
_FULL = ("No space left", "Disk quota exceeded")


def build_layer(folder: int, image: Path, limits: LayerLimits) -> None:
    """Write the image of the folder (a descriptor) to ``image``. Raises ``CapacityError``, ``TooLarge``,
    ``HostError``.
    """
    command = ["/usr/bin/prlimit", f"--fsize={limits.bytes + _OVERHEAD}", "--core=0"]
    command += ["/usr/bin/timeout", "--signal=KILL", str(limits.seconds), "mksquashfs", ".", os.fspath(image)]
    try:
        done = subprocess.run(
            [*command, *_OPTIONS],
            # By its descriptor: what is put in the folder's place meanwhile is not read.
            cwd=f"/proc/self/fd/{folder}",
            pass_fds=(folder,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            start_new_session=True,
            check=False,
        )
    except OSError as error:
        raise HostError(f"a layer cannot be built: {error}", hint="apt-get install util-linux coreutils") from error
    if done.returncode:
        raise _failure(done.returncode, done.stdout.decode(errors="replace").strip()[-500:], limits)


def _failure(code: int, text: str, limits: LayerLimits) -> Exception:
    if any(words in text for words in _FULL):
        return CapacityError("no room for an image layer", hint="free disk space under --state, then try again")
    if code == -signal.SIGXFSZ or "File too large" in text:
        return TooLarge(f"the layer takes more than {limits.bytes >> 20} MiB", hint="use smaller layers")
    if code == -signal.SIGKILL:
        return TooLarge(f"the layer was not read within {limits.seconds} s", hint="use smaller layers")
    hint = "apt-get install squashfs-tools" if "mksquashfs" in text and "No such file" in text else ""
    return HostError(f"a layer cannot be built ({code}): {text}", hint=hint)
