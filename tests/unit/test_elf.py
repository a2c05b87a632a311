"""crun's copy that is loaded without libsystemd: it runs, needs less, and what is no such program is left alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alcove.guest import elf

CRUN = Path("/usr/bin/crun")
LIBRARY = "libsystemd.so.0"


def needs(program: Path) -> str:
    return subprocess.run(["/usr/bin/ldd", program], capture_output=True, text=True, check=True).stdout


def test_a_program_without_a_library_runs(tmp_path: Path) -> None:
    assert LIBRARY in needs(CRUN)
    light = tmp_path / "crun"
    light.write_bytes(elf.without(CRUN.read_bytes(), LIBRARY))
    os.chmod(light, 0o755)
    assert LIBRARY not in needs(light)
    said = [subprocess.run([one, "--version"], capture_output=True, check=True).stdout for one in (CRUN, light)]
    assert said[0] == said[1]
    done = subprocess.run([light, "--root", tmp_path / "root", "list"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_that_is_not_needed_is_no_ones() -> None:
    with pytest.raises(ValueError, match="not needed"):
        elf.without(CRUN.read_bytes(), "libnothing.so.1")


# The dynamic section's place, out of range.
@example(b"", 64 + 56 * 6 + 15, b"\xff")
@given(st.binary(max_size=200), st.integers(6, 4096), st.binary(min_size=1, max_size=8))
def test_what_is_damaged_is_refused_or_harmless(garbage: bytes, place: int, damage: bytes) -> None:
    whole = CRUN.read_bytes()
    for program in (garbage, whole[:place], whole[:place] + damage + whole[place + len(damage) :]):
        try:
            assert len(elf.without(program, LIBRARY)) == len(program)
        except ValueError:
            pass
