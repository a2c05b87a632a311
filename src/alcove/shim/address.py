"""Where a pod's shim listens. What is imported here is in the time of ``start``."""

from __future__ import annotations

try:
    # hashlib would load OpenSSL into each pod's shim.
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

FOLDER = "/run/alcove/shims"


def digest(text: str) -> str:
    """Return 16 hex digits that stand for ``text``, where a name would be too long or not to be trusted."""
    return str(sha256(text.encode()).hexdigest()[:16])


def socket_path(namespace: str, pod: str, folder: str = FOLDER) -> str:
    return f"{folder}/{digest(f'{namespace}/{pod}')}.sock"
