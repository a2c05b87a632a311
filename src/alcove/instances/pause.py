"""The image of a pod's first container, which holds its namespaces: made here, so that no registry is asked for it.

Its one program, for x86-64, ignores SIGCHLD, by which the kernel reaps orphans for it (wait(2)), and sleeps.
"""

from __future__ import annotations

import struct

from alcove.instances import archive as archives

NAME = "alcove.internal/pause:1"
_BASE = 0x400000
_HEAD = 64 + 56  # the ELF header and one program header
# struct sigaction {SIG_IGN, 0, 0, 0}
_IGNORE = struct.pack("<4Q", 1, 0, 0, 0)


def program() -> bytes:
    """Return the program as an ELF file."""
    start = (
        b"\xb8\x0d\x00\x00\x00"  # mov eax, 13 (rt_sigaction)
        b"\xbf\x11\x00\x00\x00"  # mov edi, 17 (SIGCHLD)
        b"\xbe%b"  # mov esi, its struct sigaction
        b"\x31\xd2"  # xor edx, edx
        b"\x41\xba\x08\x00\x00\x00"  # mov r10d, 8 (size of the mask)
        b"\x0f\x05"  # syscall
        b"\xb8\x22\x00\x00\x00"  # mov eax, 34 (pause)
        b"\x0f\x05"  # syscall
        b"\xeb\xf7"  # jmp to the mov before it
    )
    length = len(start) - 2 + 4
    code = start % struct.pack("<I", _BASE + _HEAD + length)
    size = _HEAD + length + len(_IGNORE)
    # e_type EXEC, e_machine x86-64; one segment, readable and executable, that is the whole file.
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEAD, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return head + segment + code + _IGNORE


def archive() -> bytes:
    """Return the image for ``ctr images import``."""
    return archives.archive(NAME, {"Entrypoint": ["/pause"]}, {"pause": (program(), 0o755)})
