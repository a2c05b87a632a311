"""Empty scratch disks: what a function finds at /tmp, an ext4 file system as large as its quota.

One is made when the daemon starts, of the smallest quota; each machine has a sparse copy of what is in it (some 100
KB). A larger quota is that disk in a larger file, which the guest's kernel grows while it is mounted. Nothing on the
host ever reads what a guest has written: the file has no name and goes with the machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from alcove.errors import HostError
from alcove.host.files import unnamed_file

MIB = 1 << 20
SMALLEST_MIB = 512
LARGEST_MIB = 10_240
# A journal would guard a file system that nobody opens after a crash. 32-bit group descriptors: those of the largest
# disk fit in one block, so that growing moves nothing. Inode tables are not written: a sparse file reads as zeros.
_FEATURES = "^has_journal,^resize_inode,^64bit,^metadata_csum,^huge_file,uninit_bg,extent,flex_bg"
_NAME = "6a1f3f6e-1d5e-4e11-9a4c-0a1f4c3f5b01"


def disk_bytes(quota_mib: int) -> int:
    """Return the size of the file whose file system holds ``quota_mib`` of data: the inode tables (1/64) and the 16
    MiB that ext4 keeps for itself come on top.
    """
    return (quota_mib * 49 // 48 + 18) * MIB


def empty_disk(folder: Path) -> int:
    """Return the descriptor of an empty disk of the smallest quota, a file without a name in ``folder``."""
    fd = unnamed_file(folder, disk_bytes(SMALLEST_MIB))
    options = f"lazy_itable_init=1,nodiscard,root_owner=0:0,hash_seed={_NAME}"
    command = ["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0"]
    command += ["-U", _NAME, "-O", _FEATURES, "-E", options, f"/proc/self/fd/{fd}"]
    try:
        done = subprocess.run(command, pass_fds=(fd,), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise HostError(f"mke2fs cannot run: {error}", hint="apt-get install e2fsprogs") from error
    if done.returncode:
        raise HostError(f"mke2fs failed: {done.stderr.strip()[-400:]}", hint="is the disk of the state folder full?")
    return fd
