"""The programs that containerd starts for pods: a few lines each that know this installation and this server.

containerd gives a shim none of our settings: where the shim's code lies and where the server listens is written into
the program, so that several servers on one machine each get the pods of their own containerd.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import alcove

SHIM, RUNSC = "containerd-shim-alcove-v2", "alcove-runsc"
_HEAD = """\
#!{python} -IS
# Written by alcove, which containerd starts it for. -I and -S: nothing of the environment or of installed packages is
# loaded but Alcove's own shim.
"""
_SHIM = """\
import os
import sys

os.environ["ALCOVE_PODS_SOCKET"] = {node!r}
os.environ["ALCOVE_SHIM_FOLDER"] = {sockets!r}
sys.path.append({code!r})

from alcove.shim.main import main

main()
"""
_RUNSC = """\
import sys

sys.path.append({code!r})

from alcove.shim.gvisor import main

main(sys.argv[1:])
"""


def programs(run: Path) -> dict[str, str]:
    """Return the programs for the server with this run folder: their texts, by their names."""
    places = {
        # The interpreter itself: a virtual environment's name for it would look for packages first.
        "python": os.path.realpath(sys.executable),
        "node": str(run.absolute() / "pods.sock"),
        "sockets": str(run.absolute() / "shims"),
        "code": str(Path(alcove.__file__).absolute().parents[1]),
    }
    return {name: (_HEAD + text).format(**places) for name, text in ((SHIM, _SHIM), (RUNSC, _RUNSC))}


def write(folder: Path, run: Path) -> None:
    """Write each in one step: a pod may be starting from the one that is there. Raises ``OSError``."""
    for name, text in programs(run).items():
        path = folder / name
        if path.exists() and path.read_text() == text:
            continue
        fresh = path.with_name(f".{name}")
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.rename(path)
