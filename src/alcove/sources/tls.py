"""TLS to sources outside: whose certificates are believed. The server's is always verified, its name with it.

A mapping can name authorities of its own, which then are the only ones; otherwise those of this host count, and what
the operator adds to them (``--source-ca``).
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import InvalidRequest

# A few certificates.
CA_LIMIT = 16 * 1024
CA_FILE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Trust:
    """``authorities``: what the operator adds, as PEM."""

    authorities: str = ""

    @classmethod
    def load(cls, path: str) -> Trust:
        """Read the operator's file, where there is one. Raises ``InvalidRequest``."""
        if not path:
            return cls()
        try:
            text = Path(path).read_text()
            _context(text if len(text) <= CA_FILE_LIMIT else "")
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{path} holds no certificates: {error}", hint="source_ca names a PEM file") from error
        return cls(text)

    async def context(self, ca: str) -> ssl.SSLContext:
        """Return how to speak with a server; ``ca``: the only authorities to believe, as PEM, "" for the usual ones."""
        return await asyncio.to_thread(self._make, ca)

    def _make(self, ca: str) -> ssl.SSLContext:
        if ca:
            return _context(ca)
        context = ssl.create_default_context()
        if self.authorities:
            context.load_verify_locations(cadata=self.authorities)
        return context


def check_ca(text: str) -> None:
    """Raises ``InvalidRequest`` where a mapping's authorities are none."""
    try:
        _context(text if len(text) <= CA_LIMIT else "")
    except ValueError as error:
        raise InvalidRequest(
            "SERVER_ROOT_CA_CERTIFICATE must be one or more certificates as PEM.", hint=f"{CA_LIMIT} bytes at most"
        ) from error


def _context(ca: str) -> ssl.SSLContext:
    """Raises ``ValueError`` where there is no certificate."""
    if not ca:
        raise ValueError("there is none, or too much")
    try:
        return ssl.create_default_context(cadata=ca)
    # The latter where there are characters that no certificate has.
    except (ssl.SSLError, TypeError) as error:
        raise ValueError(str(error)) from error
