"""Whose turn it is: the tenant that holds the fewest sandboxes, then its function that does; among equals, in turn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from alcove.functions.line import Line
from alcove.sandbox.protocol import TenantId


class Turns:
    """The lines that want a start, in the order in which they get one."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[TenantId, OrderedDict[str, Line]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def update(self, line: Line) -> None:
        """The line's waiters or starts have changed: it stands in the order, at the end, or it does not."""
        tenant, revision = line.function.tenant, line.revision
        lines = self._tenants.get(tenant)
        if line.uncovered > 0:
            if lines is None:
                lines = self._tenants[tenant] = OrderedDict()
            lines.setdefault(revision, line)
        elif lines is not None:
            lines.pop(revision, None)
            if not lines:
                del self._tenants[tenant]

    def first(self, held: Mapping[TenantId, int]) -> Line | None:
        """Return the line whose turn it is; ``held`` are the sandboxes of each tenant."""
        if not self._tenants:
            return None
        tenant = min(self._tenants, key=held.__getitem__)
        return min(self._tenants[tenant].values(), key=lambda line: line.holding)

    def rotate(self, line: Line) -> None:
        """It had its turn."""
        lines = self._tenants.get(line.function.tenant)
        if lines is not None and line.revision in lines:
            lines.move_to_end(line.revision)
            self._tenants.move_to_end(line.function.tenant)
