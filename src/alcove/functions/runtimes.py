"""Runtime names as clients write them, and what each one means here."""

from __future__ import annotations

from alcove.errors import InvalidRequest
from alcove.sandbox.protocol import Runtime

# Names of AWS ("Lambda runtimes") and Baidu CFC whose contract our runtimes keep, and short forms.
NAMES: dict[str, Runtime] = {
    "python3.11": Runtime.PYTHON,
    "python3": Runtime.PYTHON,
    "python": Runtime.PYTHON,
    "nodejs18.x": Runtime.NODE,
    "nodejs18": Runtime.NODE,
    "nodejs": Runtime.NODE,
    "provided": Runtime.PROVIDED,
    "provided.al2": Runtime.PROVIDED,
    "provided.al2023": Runtime.PROVIDED,
}


def resolve(name: str) -> Runtime:
    """Return the runtime of that name. Raises ``InvalidRequest`` naming those that exist."""
    try:
        return NAMES[name]
    except KeyError:
        raise InvalidRequest(
            f"The runtime parameter of {name!r} is not supported. Known runtimes: {', '.join(sorted(NAMES))}.",
            hint="choose one of the known runtimes",
        ) from None
