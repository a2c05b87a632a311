"""From sums to what is to be paid: the free tier of each month, and prices for display; of calls and of pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alcove.store.metering import UsageRow
from alcove.store.pod_usage import PodUsageRow

# A GB is 1,024 MB, as in the clouds' bills.
MIB_MS_OF_A_GB_S = 1024 * 1000
MILLI_CPU_MS_OF_A_VCPU_S = 1000 * 1000
BYTES_OF_A_GB = 1 << 30


@dataclass(frozen=True, slots=True)
class Tariff:
    """``free_*`` are for each tenant and month (the paper's: a million calls, 400,000 GB-s). Prices are in a currency
    that the operator thinks of; with all at 0 no cost is shown. Of pods nothing is free.
    """

    free_calls: int = 1_000_000
    free_gb_s: int = 400_000
    million_calls_price: float = 0.0
    gb_s_price: float = 0.0
    vcpu_s_price: float = 0.0
    pod_gb_s_price: float = 0.0
    disk_gb_s_price: float = 0.0
    traffic_gb_price: float = 0.0

    @property
    def priced(self) -> bool:
        calls = self.million_calls_price or self.gb_s_price
        return bool(calls or self.vcpu_s_price or self.pod_gb_s_price or self.disk_gb_s_price or self.traffic_gb_price)


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


def describe_pod(row: PodUsageRow) -> dict[str, Any]:
    """Whole numbers are exact; ``vcpu_s``, ``gb_s`` and ``disk_gb_s`` are the same, to be read."""
    return {
        "month": row.month,
        "tenant": row.tenant_id,
        "instance": row.name,
        "run_ms": row.run_ms,
        "milli_vcpu_ms": row.milli_cpu_ms,
        "mib_ms": row.mib_ms,
        "disk_mib_ms": row.disk_mib_ms,
        "vcpu_s": vcpu_s(row.milli_cpu_ms),
        "gb_s": gb_s(row.mib_ms),
        "disk_gb_s": gb_s(row.disk_mib_ms),
        "received_bytes": row.received_bytes,
        "sent_bytes": row.sent_bytes,
    }


def bill(total: UsageRow, tariff: Tariff, pods: PodUsageRow | None = None) -> dict[str, Any]:
    """Say what of a tenant's month is beyond the free tier. ``total`` is the tenant's, over all functions, and ``pods``
    over all pods.
    """
    pods = pods or PodUsageRow(total.month, total.tenant_id, "")
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
        "instances": _of_pods(pods),
    }
    if tariff.priced:
        cost = calls / 1e6 * tariff.million_calls_price + mib_ms / MIB_MS_OF_A_GB_S * tariff.gb_s_price
        described["cost"] = round(cost + _cost_of_pods(pods, tariff), 6)
    return described


def _of_pods(pods: PodUsageRow) -> dict[str, Any]:
    described = describe_pod(pods)
    return {name: value for name, value in described.items() if name not in ("month", "tenant", "instance")}


def _cost_of_pods(pods: PodUsageRow, tariff: Tariff) -> float:
    return (
        pods.milli_cpu_ms / MILLI_CPU_MS_OF_A_VCPU_S * tariff.vcpu_s_price
        + pods.mib_ms / MIB_MS_OF_A_GB_S * tariff.pod_gb_s_price
        + pods.disk_mib_ms / MIB_MS_OF_A_GB_S * tariff.disk_gb_s_price
        + (pods.received_bytes + pods.sent_bytes) / BYTES_OF_A_GB * tariff.traffic_gb_price
    )


def vcpu_s(milli_cpu_ms: int) -> float:
    return round(milli_cpu_ms / MILLI_CPU_MS_OF_A_VCPU_S, 6)


def gb_s(mib_ms: int) -> float:
    return round(mib_ms / MIB_MS_OF_A_GB_S, 6)
