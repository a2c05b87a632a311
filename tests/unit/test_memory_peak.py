"""What a machine's agent says of the memory that its function has used: it may be anything."""

from __future__ import annotations

from typing import Any

import pytest

from alcove.sandbox.vm import GUEST_FREE_MIB, VmSandbox


def sandbox() -> VmSandbox:
    machine = VmSandbox.__new__(VmSandbox)
    machine._peak_mib = None
    return machine


@pytest.mark.parametrize("peak", [10**400, GUEST_FREE_MIB + 1, 0, -1, 1.5, "7", None, [], {}])
def test_what_no_function_can_have_used_is_not_taken(peak: Any) -> None:
    machine = sandbox()
    machine._on_event({"event": "memory", "peak_mib": peak})
    assert machine.memory_peak_mib() is None
    machine._on_event({"event": "memory"})
    assert machine.memory_peak_mib() is None


def test_what_it_says_is_kept() -> None:
    machine = sandbox()
    for peak in (7, 30, GUEST_FREE_MIB):
        machine._on_event({"event": "memory", "peak_mib": peak})
        assert machine.memory_peak_mib() == peak
