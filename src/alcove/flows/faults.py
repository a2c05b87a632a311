"""What goes wrong while an execution runs, by the codes that ``retry`` and ``catch`` name.

``XFlow.ALL`` matches every fault but those of the execution as a whole, ``XFlow.RuntimeError`` those of the tenant's
own doing: a function that failed, an expression that does not fit the data.
"""

from __future__ import annotations

from collections.abc import Iterable

ALL = "XFlow.ALL"
RUNTIME = "XFlow.RuntimeError"
FUNCTION = "CFC.FunctionError"
NOT_FOUND = "CFC.ResourceNotFoundException"
THROTTLED = "CFC.TooManyRequestsException"
SERVICE = "CFC.ServiceException"
CAUSE_LIMIT = 2048


class Fault(Exception):
    """``code`` is what is told; ``also`` are codes that match it too."""

    def __init__(self, code: str, cause: str, also: Iterable[str] = ()) -> None:
        super().__init__(f"{code}: {cause}")
        self.code = code
        self.cause = cause[:CAUSE_LIMIT]
        self.also = frozenset(also)

    def matches(self, codes: Iterable[str]) -> bool:
        return not self.also.union({self.code, ALL}).isdisjoint(codes)


class FinalFault(Fault):
    """One that ends the execution whatever is caught: it has used up what one may."""

    def matches(self, codes: Iterable[str]) -> bool:
        return False


def runtime_fault(cause: str) -> Fault:
    return Fault(RUNTIME, cause)
