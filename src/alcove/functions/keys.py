"""What a function signs with when it calls us from its sandbox: a key of its own, never its tenant's.

The access key names the function, the secret is derived from it and from a root that never leaves the store. Nothing is
stored for a function, so nothing can be left over: a key is good while its function exists, and for what functions may
do (``api.app``). A function that is deleted and made again has another id, hence another key. A snapshot keeps the
environment that its version started with, which is why keys don't expire by time.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from alcove.host.network import API_PORT, S3_PORT, SERVICE_ADDRESS
from alcove.sandbox.protocol import TenantId
from alcove.store import functions as rows
from alcove.store.database import Database
from alcove.store.tenants import set_setting, setting

PREFIX = "ALFN"
SERVICE_ENDPOINT = f"http://{SERVICE_ADDRESS}:{API_PORT}"
_ROOT = "function_key_root"
_ACCESS_KEY = re.compile(r"ALFN[0-9A-F]{32}")


@dataclass(frozen=True, slots=True)
class FunctionKey:
    access_key: str
    secret: str = field(repr=False)
    tenant: TenantId = field()


class FunctionKeys:
    """``await FunctionKeys.open(database, region)``."""

    def __init__(self, database: Database, root: bytes, region: str) -> None:
        self._database = database
        self._root = root
        self._region = region

    @classmethod
    async def open(cls, database: Database, region: str) -> FunctionKeys:
        def change(connection: sqlite3.Connection) -> str:
            root = setting(connection, _ROOT)
            if root is None:
                root = secrets.token_hex(32)
                set_setting(connection, _ROOT, root)
            return root

        return cls(database, bytes.fromhex(await database.write(change)), region)

    async def find(self, access_key: str) -> FunctionKey | None:
        """Return the key, unless no function has it."""
        if not _ACCESS_KEY.fullmatch(access_key):
            return None
        function_id = access_key.removeprefix(PREFIX).lower()
        tenant = await self._database.read(lambda connection: rows.owner_of(connection, function_id))
        return None if tenant is None else FunctionKey(access_key, self._secret(access_key), TenantId(tenant))

    def environment(self, function_id: str) -> Mapping[str, str]:
        """Return the variables by which SDKs in the function's sandbox find us and sign."""
        access_key = PREFIX + function_id.upper()
        return {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret(access_key),
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ENDPOINT_URL": SERVICE_ENDPOINT,
            "AWS_ENDPOINT_URL_LAMBDA": SERVICE_ENDPOINT,
            "AWS_ENDPOINT_URL_S3": f"http://{SERVICE_ADDRESS}:{S3_PORT}",
            "AWS_ENDPOINT_URL_SQS": SERVICE_ENDPOINT,
        }

    def _secret(self, access_key: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._root, access_key.encode(), "sha256"))[:40].decode()
