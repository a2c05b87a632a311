"""Code and layers in the folders that a container sees as /var/task and /opt (blocking: for threads).

Without layers the image is the code. With layers (``images/code_layers.py``) its two folders go to the two places; our
own code, which every container has in its /opt, stays there.
"""

from __future__ import annotations

import os
from pathlib import Path

from alcove.host.mounts import bind, mount_squashfs, unpack_squashfs
from alcove.images.code_layers import OPT, RESERVED, TASK
from alcove.sandbox.protocol import CodeImage


def show_ours(root: Path, opt: Path) -> None:
    """Put our own code, of the image that is mounted at ``root``, into a new container's ``opt``."""
    target = opt / RESERVED
    target.mkdir(parents=True)
    for folder in (target, opt):
        folder.chmod(0o755)
    bind(root / "opt" / RESERVED, target)


def mount_code(code: CodeImage, task: Path, opt: Path) -> None:
    """Raises ``HostError``."""
    mount_squashfs(code.path, task)
    if not code.layered:
        return
    ours = os.open(opt / RESERVED, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        bind(task / OPT, opt)
        bind(Path(f"/proc/self/fd/{ours}"), opt / RESERVED)
    finally:
        os.close(ours)
    bind(task / TASK, task)


def copy_code(code: CodeImage, task: Path, opt: Path) -> None:
    """Raises ``HostError``."""
    if not code.layered:
        unpack_squashfs(code.path, task)
        return
    # In the same mount, so that files are moved, not copied once more.
    copied = task.parent / "copied"
    unpack_squashfs(code.path, copied)
    (copied / OPT / RESERVED).rmdir()
    for source, target in ((copied / TASK, task), (copied / OPT, opt)):
        for path in source.iterdir():
            path.rename(target / path.name)
        source.rmdir()
    copied.rmdir()
