"""From sums to what is to be paid: the free tier of each month, and prices for display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alcove.store.metering import UsageRow

# A GB is 1,024 MB, as in the clouds' bills.
MIB_MS_OF_A_GB_S = 1024 * 1000


@dataclass(frozen=True, slots=True)
class Tariff:
    """``free_*`` are for each tenant and month (the paper's: a million calls, 400,000 GB-s). Prices are in a currency
    that the operator thinks of; with both at 0 no cost is shown.
    """

    free_calls: int = 1_000_000
    free_gb_s: int = 400_000
    million_calls_price: float = 0.0
    gb_s_price: float = 0.0

    @property
    def priced(self) -> bool:
        return bool(self.million_calls_price or self.gb_s_price)


def describe(row: UsageRow) -> dict[str, Any]:
    """``mib_ms`` is exact; ``gb_s`` is the same, to be read."""
    return {
        "month": row.month,
        "tenant": row.tenant_id,
        "function": row.function,
        "calls": row.calls,
        "errors": row.errors,
        "billed_ms": row.billed_ms,
        "mib_ms": row.mib_ms,
        "gb_s": gb_s(row.mib_ms),
        "streamed_bytes": row.streamed_bytes,
    }


def bill(total: UsageRow, tariff: Tariff) -> dict[str, Any]:
    """Say what of a tenant's month is beyond the free tier. ``total`` is the tenant's, over all functions."""
    calls = max(0, total.calls - tariff.free_calls)
    mib_ms = max(0, total.mib_ms - tariff.free_gb_s * MIB_MS_OF_A_GB_S)
    described = describe(total)
    del described["function"]
    described |= {
        "free_calls": min(total.calls, tariff.free_calls),
        "billable_calls": calls,
        "free_gb_s": gb_s(total.mib_ms - mib_ms),
        "billable_mib_ms": mib_ms,
        "billable_gb_s": gb_s(mib_ms),
    }
    if tariff.priced:
        cost = calls / 1e6 * tariff.million_calls_price + mib_ms / MIB_MS_OF_A_GB_S * tariff.gb_s_price
        described["cost"] = round(cost, 6)
    return described


def gb_s(mib_ms: int) -> float:
    return round(mib_ms / MIB_MS_OF_A_GB_S, 6)
