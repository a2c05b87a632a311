"""The benchmarks on stand-ins run, and say what they mean to say."""

from __future__ import annotations

from alcove.bench import gateway_cpu, gateway_load, overload


def test_calls_of_both_kinds_are_counted() -> None:
    found = gateway_cpu.measure(connections=4, seconds=0.5, progress=lambda line: None)
    assert [one.way for one in found] == list(gateway_cpu.WAYS)
    assert all(one.calls > 0 and one.cpu_s > 0 for one in found)


def test_overload_refuses_at_once_and_exceeds_no_cap() -> None:
    for one in overload.measure(capacity=4, handler_ms=20, seconds=1.0, progress=lambda line: None):
        assert one.accepted_ms
        assert one.refused_ms
        assert len(one.accepted_ms) + len(one.refused_ms) == one.offered
        assert not one.exceeded
        assert one.left == 0


def test_half_the_capacity_is_offered_and_answered() -> None:
    found = gateway_load.measure(connections=8, seconds=1.5, progress=lambda line: None)
    assert found.rate == found.capacity / 2
    assert 0.5 < len(found.ms) / (found.rate * 1.5) < 1.5
    assert min(found.ms) > 0
