"""``Code.Location``: a link that serves a package to whoever has it, for ten minutes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
import time

from alcove.errors import AccessDenied, NotFound
from alcove.gateway.message import Request, Response
from alcove.images.code import CodeStore
from alcove.store.database import Database
from alcove.store.tenants import set_setting, setting

PREFIX = "/alcove/v1/code/"
LIFETIME_S = 600
_KEY = "download_key"


async def load_download_key(database: Database) -> bytes:
    """Return the key that signs links; made at the first start."""

    def ensure(connection: sqlite3.Connection) -> str:
        known = setting(connection, _KEY)
        if known is None:
            known = secrets.token_hex(32)
            set_setting(connection, _KEY, known)
        return known

    return bytes.fromhex(await database.write(ensure))


class Downloads:
    def __init__(self, code: CodeStore, key: bytes) -> None:
        self._code = code
        self._key = key

    def link(self, request: Request, package_sha256: str) -> str:
        """Return a URL on the server that the request came to."""
        expires = int(time.time()) + LIFETIME_S
        host = request.headers.get("host", "localhost")
        token = self._token(package_sha256, str(expires))
        return f"http://{host}{PREFIX}{package_sha256}?expires={expires}&token={token}"

    async def serve(self, request: Request) -> Response:
        """Answer a link. Raises ``AccessDenied`` or ``NotFound``."""
        package_sha256 = request.raw_path.removeprefix(PREFIX)
        expires = request.query.get("expires", "")
        token = request.query.get("token", "")
        expected = self._token(package_sha256, expires)
        if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
            raise AccessDenied("The link is not one that was given out.", code="signature")
        if int(expires) < time.time():
            raise AccessDenied("The link expired.", code="expired", hint="call GetFunction again")
        try:
            path = self._code.package_path(package_sha256)
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise NotFound("The package was deleted.") from None
        return Response(200, {"Content-Type": "application/zip"}, data)

    def _token(self, package_sha256: str, expires: str) -> str:
        text = f"{package_sha256}/{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
