"""Names of functions: what they may be, and every way in which clients write them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from alcove.errors import InvalidRequest, NotFound
from alcove.functions.brn import account_from_brn
from alcove.functions.model import LATEST

# CreateFunction in the AWS Lambda API reference: letters, digits, hyphens, underscores; 64
# characters.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# The longest text that is remembered: no valid one is longer.
_KNOWN_LENGTH = 300
_QUALIFIER = re.compile(r"\$LATEST|[a-zA-Z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A function as a request names it; ``account`` and ``qualifier`` None where left out."""

    name: str
    qualifier: str | None = None
    account: str | None = None

    @property
    def version(self) -> str:
        return self.qualifier or LATEST

    def check_owner(self, tenant_id: str) -> None:
        """Another tenant's function does not exist, as far as this one is told."""
        if self.account is not None and self.account != tenant_id:
            raise NotFound(f"Function not found: {self.name}")


def check_name(name: str) -> str:
    """Return a valid function name. Raises ``InvalidRequest``."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"Function name {name[:80]!r} must have 1 to 64 letters, digits, hyphens or underscores.")
    return name


def parse(text: str, qualifier: str | None = None) -> Reference:
    """As ``read``; busy names are few, and the last ones are remembered."""
    return _known(text, qualifier) if len(text) <= _KNOWN_LENGTH else read(text, qualifier)


def read(text: str, qualifier: str | None = None) -> Reference:
    """Read ``name``, ``name:qualifier``, ``account:function:name[:q]``, an ARN or a BRN.

    A qualifier in both places must be the same one. Raises ``InvalidRequest``.
    """
    account: str | None = None
    parts = text.split(":")
    if parts[0] in ("arn", "brn"):
        if len(parts) not in (7, 8) or parts[5] != "function":
            raise InvalidRequest(f"{text[:200]!r} is not the ARN of a function.")
        account, rest = account_from_brn(parts[4]), parts[6:]
    elif len(parts) in (3, 4) and parts[1] == "function":
        account, rest = parts[0], parts[2:]
    elif len(parts) in (2, 3) and parts[0] == "function":
        rest = parts[1:]
    elif len(parts) in (2, 3) and re.fullmatch(r"\d{12}", parts[0]):
        account, rest = parts[0], parts[1:]
    else:
        rest = parts
    if len(rest) > 2:
        raise InvalidRequest(f"{text[:200]!r} does not name a function.")
    inner = rest[1] if len(rest) == 2 else None
    if inner is not None and qualifier and inner != qualifier:
        raise InvalidRequest("The derived qualifier from the function name does not match.")
    chosen = inner or qualifier or None
    if chosen is not None and not _QUALIFIER.fullmatch(chosen):
        raise InvalidRequest(f"Qualifier {chosen[:80]!r} is malformed.")
    return Reference(check_name(rest[0]), chosen, account)


_known = functools.lru_cache(maxsize=4096)(read)
