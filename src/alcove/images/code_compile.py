"""Python sources compiled ahead, so that no cold start parses them.

The sources are a stranger's, so the compiler runs as nobody, with limits, in a process that imports
nothing of theirs. The result depends on the sources alone: hash-based, unchecked ``.pyc`` files
(PEP 552; an image's time stamps are all 0), a fixed hash seed (it orders the constants of sets),
file names as they are in the sandbox.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

NOBODY = 65534
# What the guest's runtime calls itself: pyc files are of use to this version only.
PYTHON = "python3.11"
TASK_ROOT = "/var/task"
TIMEOUT_S = 240
_SCRIPT = """
import os, py_compile, resource, sys
limits = {"AS": 1 << 30, "CPU": 240, "FSIZE": 64 << 20, "CORE": 0, "NOFILE": 64}
for name, limit in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for folder, folders, names in os.walk("."):
    folders.sort()
    for name in sorted(names):
        if name.endswith(".py"):
            path = os.path.normpath(os.path.join(folder, name))
            try:
                shown = sys.argv[1] + "/" + path
                py_compile.compile(path, dfile=shown, doraise=True, invalidation_mode=mode)
            except Exception:
                pass
"""


def compiler() -> str | None:
    """Return the interpreter whose ``.pyc`` files the guest can use, if this machine has it."""
    path = f"/usr/bin/{PYTHON}"
    return path if os.access(path, os.X_OK) else shutil.which(PYTHON)


def precompile(tree: Path, root: str = TASK_ROOT) -> bool:
    """Compile each source under ``tree``, which is ``root`` in the guest; those with errors are left for the runtime to
    report.

    False where the compiler is missing or died: no ``.pyc`` of ours is in the tree then.
    """
    python = compiler()
    if python is None:
        return False
    done = _run(python, tree, root, user=NOBODY if os.geteuid() == 0 else None)
    if not done:
        for cache in list(tree.rglob("__pycache__")):
            shutil.rmtree(cache, ignore_errors=True)
    return done


def normalise(tree: Path) -> None:
    """Modes 0755 and 0644 (0755 for what was executable); anything but files and folders is
    removed.
    """
    for folder, folders, names in os.walk(tree):
        for name in folders + names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                os.chmod(path, 0o755)  # noqa: S103 (below a folder of mode 0700)
            elif stat.S_ISREG(mode):
                os.chmod(path, 0o755 if mode & 0o111 else 0o644)
            else:
                os.unlink(path)


def _run(python: str, tree: Path, root: str, user: int | None) -> bool:
    # -P and -S keep the stranger's folder and site packages out of sys.path; -I would ignore the
    # seed.
    try:
        finished = subprocess.run(
            [python, "-P", "-s", "-S", "-B", "-W", "ignore", "-c", _SCRIPT, root],
            cwd=tree,
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return False
    return finished.returncode == 0
