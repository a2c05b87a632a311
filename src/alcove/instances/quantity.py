"""Kubernetes' quantities: ``500m``, ``1.5``, ``64Mi``, ``1G``."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import lru_cache

_FORM = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]{1,2})?")
_POWERS = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
LIMIT = 1 << 60


@lru_cache(1024)
def parse(text: str | int | float) -> Decimal:
    """Return the number that a quantity stands for, exactly. Raises ``ValueError``."""
    found = _FORM.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{str(text)[:40]!r} is no quantity, such as 500m, 2 or 64Mi")
    number, suffix = Decimal(found[1]), found[2] or ""
    value = number * _factor(suffix)
    if value > LIMIT:
        raise ValueError(f"{str(text)[:40]!r} is too large")
    return value


def _factor(suffix: str) -> Decimal:
    if not suffix:
        return Decimal(1)
    if suffix == "m":
        return Decimal("0.001")
    if suffix.endswith("i"):
        return Decimal(1024 ** _POWERS[suffix[0].replace("K", "k")])
    if suffix.startswith("e"):
        return Decimal(10) ** int(suffix[1:])
    return Decimal(1000 ** _POWERS[suffix])


def whole(text: str | int | float) -> int:
    """Return a quantity of bytes or pieces, rounded up as Kubernetes does."""
    return math.ceil(parse(text))
