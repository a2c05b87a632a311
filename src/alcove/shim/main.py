"""``containerd-shim-alcove-v2``: what containerd starts. ``start`` and ``delete`` are short, a fork serves.

A failure is told on stderr, in one line, which containerd shows; nothing else is ever printed.
"""

from __future__ import annotations

import os
import sys

from alcove.shim.arguments import Arguments

NAME = "io.containerd.alcove.v2"


def main() -> None:
    try:
        _run(Arguments(sys.argv[1:]))
    except (OSError, ValueError) as error:
        os.write(2, f"containerd-shim-alcove-v2: {error}\n".encode())
        sys.exit(1)


def _run(arguments: Arguments) -> None:
    if arguments.switches & {"v", "version"}:
        from alcove import __version__

        os.write(1, f"{NAME} {__version__}\n".encode())
    elif "info" in arguments.switches:
        from alcove.shim.info import info

        os.write(1, info(NAME))
    elif not arguments.id:
        raise ValueError(f"-id is missing: this program is started by containerd, as the runtime {NAME}")
    elif arguments.action == "start":
        from alcove.shim.start import start

        start(arguments)
    elif arguments.action == "delete":
        from alcove.shim.delete import delete

        os.write(1, delete(arguments))
    else:
        raise ValueError(f"unknown action {arguments.action!r}: start or delete")


if __name__ == "__main__":
    main()
