"""What one tenant may have at once. The operator's settings are defaults; a tenant can have numbers of its own."""

from __future__ import annotations

from dataclasses import dataclass, fields

from alcove.errors import InvalidRequest, QuotaExceeded

# SQLite's and JSON's whole numbers both hold this.
HIGHEST = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Quotas:
    """``code_bytes`` are those of the packages of all versions; ``concurrency`` is what runs at one moment; ``events``
    are asynchronous invocations that wait, ``executions`` those of flows that run at one moment; ``instances`` are
    there, ended or not. AWS's defaults for an account, where it has any.
    """

    functions: int = 50_000
    code_bytes: int = 75 << 30
    concurrency: int = 1000
    timers: int = 10_000
    events: int = 100_000
    flows: int = 200
    executions: int = 100
    instances: int = 50_000


QUOTA_NAMES = tuple(field.name for field in fields(Quotas))
# What a tenant has that does not exist, or no more.
NOTHING = Quotas(0, 0, 0, 0, 0, 0, 0, 0)


def check_quota(name: str, value: object) -> int | None:
    """Return the value; None stands for the default. Raises ``InvalidRequest``."""
    if name not in QUOTA_NAMES:
        raise InvalidRequest(f"There is no quota {name[:40]!r}.", hint=f"there are {', '.join(QUOTA_NAMES)}")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= HIGHEST:
        raise InvalidRequest(f"The quota {name!r} must be a whole number from 0 on.")
    return value


def require_functions(count: int, quotas: Quotas) -> None:
    """``count`` is what there would be. Raises ``QuotaExceeded``."""
    if count > quotas.functions:
        raise QuotaExceeded(
            f"Function limit exceeded: this tenant may have {quotas.functions}.",
            code="functions",
            hint="delete functions, or ask the operator for a higher quota",
        )


def require_code_bytes(total: int, quotas: Quotas) -> None:
    """``total`` is what there would be. Raises ``QuotaExceeded``."""
    if total > quotas.code_bytes:
        raise QuotaExceeded(
            f"Code storage limit of {quotas.code_bytes} bytes exceeded.",
            code="code_bytes",
            hint="delete versions or functions, or ask the operator for a higher quota",
        )
