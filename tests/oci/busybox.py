"""Images that work, made of this machine's programs: busybox with all of its applets, and others on top of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.oci.image import Entry, directory, executable, layer, link

BUSYBOX = Path("/usr/bin/busybox")
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:"
    "nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n",
}
_FOLDERS = ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "usr/bin", "usr/sbin", "var", "var/www")


@cache
def busybox_layer() -> bytes:
    """Return a layer that is a whole small system."""
    return layer(_busybox())


def _busybox() -> Iterator[Entry]:
    yield from (directory(name) for name in _FOLDERS)
    yield directory("tmp", 0o1777)
    yield executable("bin/busybox", BUSYBOX.read_bytes())
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    # Hard links, as in the image of that name: each can be masked alone.
    yield from (link(f"bin/{applet}", "bin/busybox") for applet in applets if applet not in ("busybox", "sh"))
    yield from (Entry(name, text.encode()) for name, text in _ACCOUNTS.items())
    # Debian's busybox finds its applets without looking for them: a shell that does look is another's.
    shell = list(program(Path("/usr/bin/dash")))
    yield replace(shell[0], name="bin/sh")
    yield from shell[1:]
    # What it is built without.
    yield from program(Path("/usr/bin/ipcs"))
    yield from program(Path("/usr/bin/pgrep"))


def program(path: Path) -> Iterator[Entry]:
    """Yield a program of this machine's and the libraries that it loads."""
    yield executable(str(path).lstrip("/"), path.read_bytes())
    listing = subprocess.run(["/usr/bin/ldd", path], capture_output=True, text=True, check=True).stdout
    for library in sorted(set(re.findall(r"(/\S+) \(0x", listing))):
        yield executable(library.lstrip("/"), Path(library).read_bytes())
