"""Runtime names as clients write them, and what each one means here."""

from __future__ import annotations

import re

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
    "java17": Runtime.JAVA,
    "php8.2": Runtime.PHP,
}
# Older releases that clients still ask for, and what comes nearest.
_NEAREST = {"python": "python3.11", "nodejs": "nodejs18.x", "java": "java17", "php": "php8.2", "go": "provided.al2023"}


def resolve(name: str) -> Runtime:
    """Return the runtime of that name. Raises ``InvalidRequest`` naming those that exist."""
    try:
        return NAMES[name]
    except KeyError:
        language = "".join(re.findall("^[a-z]+", name))
        nearest = _NEAREST.get(language)
        hint = f"the release of {language} here is {nearest}" if nearest else "choose one of the known runtimes"
        raise InvalidRequest(
            f"The runtime parameter of {name!r} is not supported. Known runtimes: {', '.join(sorted(NAMES))}.",
            hint=hint,
        ) from None
