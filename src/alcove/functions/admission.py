"""Concurrency, counted: how many calls run of each account, function and version, and whether one more may.

As on AWS ("Understanding Lambda function scaling"): an account has a limit. A function may reserve a part of it, which
is then also the function's limit; what nobody reserved is shared by the others. A version may have provisioned
concurrency, a part that is its own: of its function's reservation where there is one, of the shared rest otherwise.
A call takes a provisioned place first and *spills* over into the reservation, or the rest, where none is free.

Everything here is plain arithmetic between two awaits, so no cap is ever exceeded by one; a limit that is lowered
holds from the next admission on, and calls that run are let finish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from alcove.errors import ThrottledError
from alcove.functions.model import FunctionVersion
from alcove.sandbox.protocol import TenantId

# The names of AWS's ThrottleReason.
ACCOUNT = "ConcurrentInvocationLimitExceeded"
RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"


@dataclass(slots=True)
class _Account:
    """``spill``: calls that run in the shared rest; ``reserved``, ``provisioned``: what is taken out of it."""

    used: int = 0
    spill: int = 0
    reserved: int = 0
    provisioned: int = 0


@dataclass(slots=True)
class _Function:
    """``used`` calls run, ``spill`` of them outside of provisioned places; ``versions`` counts them by version."""

    account: _Account
    tenant: TenantId
    used: int = 0
    spill: int = 0
    reserved: int | None = None
    versions: dict[str, int] = field(default_factory=dict)
    provisioned: dict[str, int] = field(default_factory=dict)

    @property
    def set_aside(self) -> int:
        return sum(self.provisioned.values())


class Admission:
    """``limit_of`` says how many calls a tenant may have running at once."""

    def __init__(self, limit_of: Callable[[TenantId], int]) -> None:
        self.limit_of = limit_of
        self._accounts: dict[TenantId, _Account] = {}
        self._functions: dict[str, _Function] = {}

    def enter(self, function: FunctionVersion) -> None:
        """Count one more call. Raises ``ThrottledError`` where a cap is reached; nothing is counted then."""
        one = self._functions.get(function.function_id) or self._function(function.function_id, function.tenant)
        account = one.account
        limit = self.limit_of(function.tenant)
        held = one.versions.get(function.version, 0)
        if one.reserved is not None and one.used >= one.reserved:
            raise _refusal(RESERVED, one.reserved)
        if account.used >= limit:
            raise _refusal(ACCOUNT, limit)
        if not one.provisioned or held >= one.provisioned.get(function.version, 0):
            self._spill(one, limit)
        one.versions[function.version] = held + 1
        one.used += 1
        account.used += 1

    def _spill(self, one: _Function, limit: int) -> None:
        account = one.account
        if one.reserved is None:
            rest = limit - account.reserved - account.provisioned
            if account.spill >= rest:
                raise _refusal(ACCOUNT, limit)
            account.spill += 1
        elif one.spill >= one.reserved - one.set_aside:
            raise _refusal(RESERVED, one.reserved)
        one.spill += 1

    def leave(self, function: FunctionVersion) -> None:
        """One call that ``enter`` counted has ended."""
        one = self._functions[function.function_id]
        held = one.versions[function.version]
        if not one.provisioned or held > one.provisioned.get(function.version, 0):
            one.spill -= 1
            if one.reserved is None:
                one.account.spill -= 1
        if held == 1:
            del one.versions[function.version]
        else:
            one.versions[function.version] = held - 1
        one.used -= 1
        one.account.used -= 1

    # Limits

    def reserve(self, tenant: TenantId, function_id: str, reserved: int | None) -> None:
        """Set what the function has reserved; None: nothing, it shares the rest."""
        one = self._function(function_id, tenant)
        self._lift(one)
        one.reserved = reserved
        self._put_down(one)

    def provision(self, tenant: TenantId, function_id: str, version: str, count: int) -> None:
        """Set the provisioned concurrency of a version; 0: none."""
        one = self._function(function_id, tenant)
        self._lift(one)
        one.provisioned.pop(version, None)
        if count:
            one.provisioned[version] = count
        one.spill = sum(max(0, held - one.provisioned.get(v, 0)) for v, held in one.versions.items())
        self._put_down(one)

    def remove(self, tenant: TenantId, function_id: str) -> None:
        """The function is no more: what it had set aside is free."""
        for version in list(self._function(function_id, tenant).provisioned):
            self.provision(tenant, function_id, version, 0)
        self.reserve(tenant, function_id, None)

    def _lift(self, one: _Function) -> None:
        """Take the function's part out of its account's sums, until ``_put_down``."""
        if one.reserved is None:
            one.account.provisioned -= one.set_aside
            one.account.spill -= one.spill
        else:
            one.account.reserved -= one.reserved

    def _put_down(self, one: _Function) -> None:
        if one.reserved is None:
            one.account.provisioned += one.set_aside
            one.account.spill += one.spill
        else:
            one.account.reserved += one.reserved

    # What there is

    def running(self, tenant: TenantId) -> int:
        account = self._accounts.get(tenant)
        return 0 if account is None else account.used

    def reserved(self, function_id: str) -> int | None:
        one = self._functions.get(function_id)
        return None if one is None else one.reserved

    def provisioned(self, function_id: str) -> int:
        """All provisioned concurrency of the function's versions."""
        one = self._functions.get(function_id)
        return 0 if one is None else one.set_aside

    def rest(self, tenant: TenantId) -> int:
        """What the functions without a reservation share; less than nothing after the tenant's limit was lowered."""
        account = self._accounts.get(tenant) or _Account()
        return self.limit_of(tenant) - account.reserved - account.provisioned

    def sweep(self) -> None:
        """Forget functions that count nothing and limit nothing, and accounts that have no others."""
        idle = [key for key, one in self._functions.items() if not one.used and one.reserved is None]
        for key in idle:
            if not self._functions[key].provisioned:
                del self._functions[key]
        tenants = {one.tenant for one in self._functions.values()}
        self._accounts = {tenant: account for tenant, account in self._accounts.items() if tenant in tenants}

    def _function(self, function_id: str, tenant: TenantId) -> _Function:
        one = self._functions.get(function_id)
        if one is None:
            account = self._accounts.setdefault(tenant, _Account())
            one = self._functions[function_id] = _Function(account, tenant)
        return one


def _refusal(reason: str, limit: int) -> ThrottledError:
    whose = "the function has reserved" if reason == RESERVED else "the account may have at once"
    return ThrottledError("Rate Exceeded.", reason=reason, hint=f"all {limit} calls that {whose} are running")
