"""The counting of concurrency against a model that knows every call by name."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.test_dispatcher import function

from alcove.errors import ThrottledError
from alcove.functions.admission import ACCOUNT, RESERVED, Admission
from alcove.functions.model import FunctionVersion
from alcove.sandbox.protocol import TenantId

TENANT = TenantId("t")
VERSIONS = [function(name=name, version=version) for name in "abc" for version in ("$LATEST", "1", "2")]


class Caps(RuleBasedStateMachine):
    """Calls come and go while limits change. What runs is in ``running``; the rest of the model is arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 6
        self.admission = Admission(lambda tenant: self.limit)
        self.running: list[FunctionVersion] = []
        self.reserved: dict[str, int] = {}
        self.provisioned: dict[tuple[str, str], int] = {}

    def of(self, function_id: str) -> int:
        return sum(one.function_id == function_id for one in self.running)

    def spill(self, function_id: str) -> int:
        """Calls of the function outside of provisioned places."""
        held = Counter(one.version for one in self.running if one.function_id == function_id)
        return sum(max(0, n - self.provisioned.get((function_id, version), 0)) for version, n in held.items())

    def set_aside(self, function_id: str) -> int:
        return sum(count for (owner, _), count in self.provisioned.items() if owner == function_id)

    def expected(self, one: FunctionVersion) -> str:
        """Return why a call is refused, or nothing."""
        reserved = self.reserved.get(one.function_id)
        if reserved is not None and self.of(one.function_id) >= reserved:
            return RESERVED
        if len(self.running) >= self.limit:
            return ACCOUNT
        held = sum(other is one for other in self.running)
        if held < self.provisioned.get((one.function_id, one.version), 0):
            return ""
        if reserved is not None:
            return RESERVED if self.spill(one.function_id) >= reserved - self.set_aside(one.function_id) else ""
        sharing = [key for key in ("id-a", "id-b", "id-c") if key not in self.reserved]
        rest = self.limit - sum(self.reserved.values()) - sum(map(self.set_aside, sharing))
        return ACCOUNT if sum(map(self.spill, sharing)) >= rest else ""

    @rule(one=st.sampled_from(VERSIONS))
    def call(self, one: FunctionVersion) -> None:
        why = self.expected(one)
        if why:
            with pytest.raises(ThrottledError) as refused:
                self.admission.enter(one)
            assert refused.value.reason == why
        else:
            self.admission.enter(one)
            self.running.append(one)
            # The caps themselves, whatever the model says.
            assert len(self.running) <= self.limit
            assert self.of(one.function_id) <= self.reserved.get(one.function_id, self.limit)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.running))
        self.running.remove(one)
        self.admission.leave(one)

    @rule(name=st.sampled_from("abc"), reserved=st.none() | st.integers(0, 4))
    def reserve(self, name: str, reserved: int | None) -> None:
        self.admission.reserve(TENANT, f"id-{name}", reserved)
        self.reserved.pop(f"id-{name}", None)
        if reserved is not None:
            self.reserved[f"id-{name}"] = reserved

    @rule(name=st.sampled_from("abc"), version=st.sampled_from("12"), count=st.integers(0, 3))
    def provision(self, name: str, version: str, count: int) -> None:
        self.admission.provision(TENANT, f"id-{name}", version, count)
        self.provisioned[f"id-{name}", version] = count

    @rule(limit=st.integers(1, 8))
    def change_limit(self, limit: int) -> None:
        self.limit = limit

    @rule()
    def sweep(self) -> None:
        self.admission.sweep()

    @rule(name=st.sampled_from("abc"))
    def remove(self, name: str) -> None:
        self.admission.remove(TENANT, f"id-{name}")
        self.reserved.pop(f"id-{name}", None)
        for version in "12":
            self.provisioned.pop((f"id-{name}", version), None)

    @invariant()
    def counts_agree(self) -> None:
        assert self.admission.running(TENANT) == len(self.running)
        for name in "abc":
            assert self.admission.reserved(f"id-{name}") == self.reserved.get(f"id-{name}")
            assert self.admission.provisioned(f"id-{name}") == self.set_aside(f"id-{name}")


Caps.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
TestCaps = Caps.TestCase


def test_nothing_reserved_means_nothing_runs() -> None:
    admission = Admission(lambda tenant: 10)
    admission.reserve(TENANT, "id-f", 0)
    with pytest.raises(ThrottledError) as refused:
        admission.enter(function())
    assert refused.value.reason == RESERVED


def test_one_tenant_does_not_count_for_another() -> None:
    admission = Admission(lambda tenant: 1)
    admission.enter(function())
    admission.enter(function(name="g", tenant=TenantId("other")))
    with pytest.raises(ThrottledError):
        admission.enter(function(name="h"))


def test_what_is_idle_and_without_limits_is_forgotten() -> None:
    admission = Admission(lambda tenant: 10)
    for number in range(100):
        one = function(name=f"f{number}")
        admission.enter(one)
        admission.leave(one)
    admission.reserve(TENANT, "id-kept", 3)
    admission.sweep()
    assert list(admission._functions) == ["id-kept"]
    admission.remove(TENANT, "id-kept")
    admission.sweep()
    assert not admission._functions
    assert not admission._accounts
