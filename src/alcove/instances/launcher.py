"""The program that containerd starts for pods in VMs: a few lines that know this installation and this server.

containerd gives a shim none of our settings: where the shim's code lies and where the server listens is written into
the program, so that several servers on one machine each get the pods of their own containerd.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import alcove

SHIM = "containerd-shim-alcove-v2"
_TEXT = """\
#!{python} -IS
# Written by alcove, which containerd starts it for. -I and -S: nothing of the environment or of installed packages is
# loaded but Alcove's own shim.
import os
import sys

os.environ["ALCOVE_PODS_SOCKET"] = {node!r}
os.environ["ALCOVE_SHIM_FOLDER"] = {sockets!r}
sys.path.append({code!r})

from alcove.shim.main import main

main()
"""


def render(run: Path) -> str:
    """Return the program for the server with this run folder."""
    return _TEXT.format(
        # The interpreter itself: a virtual environment's name for it would look for packages first.
        python=os.path.realpath(sys.executable),
        node=str(run.absolute() / "pods.sock"),
        sockets=str(run.absolute() / "shims"),
        code=str(Path(alcove.__file__).absolute().parents[1]),
    )


def write(path: Path, run: Path) -> None:
    """Write it in one step: a pod may be starting from the one that is there. Raises ``OSError``."""
    text = render(run)
    if path.exists() and path.read_text() == text:
        return
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.rename(path)
