"""Where a pod runs: the tiers that functions have too, and Kata Containers where that is installed."""

from __future__ import annotations

from enum import StrEnum

from alcove.sandbox.protocol import Isolation


class PodTier(StrEnum):
    """Strongest first."""

    VM = "vm"
    KATA = "kata"
    GVISOR = "gvisor"
    PROCESS = "process"

    @property
    def handler(self) -> str:
        """The name that CRI, and Kubernetes' RuntimeClasses, know it by."""
        return _HANDLERS[self]

    @property
    def strength(self) -> int:
        """Orders the tiers: the stronger, the higher. Kata's pods have machines of their own, as ours."""
        return (Isolation.VM if self is PodTier.KATA else Isolation(self.value)).strength


_HANDLERS = {PodTier.VM: "alcove", PodTier.KATA: "kata", PodTier.GVISOR: "runsc", PodTier.PROCESS: "runc"}
BY_HANDLER = {handler: tier for tier, handler in _HANDLERS.items()}
