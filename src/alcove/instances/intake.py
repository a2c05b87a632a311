"""New instances, written down as a whole: their quota, their names, and the token of whoever may ask again.

All of it is one transaction. A client that asks again with its token gets the first answer, also where what was made
then is gone; one that asks for something else with it is refused.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from alcove.errors import Conflict, InvalidRequest, QuotaExceeded
from alcove.instances import manifest
from alcove.instances.manifest import Pod
from alcove.instances.pull_secrets import PullSecret, dump_secrets
from alcove.instances.tier import PodTier
from alcove.sandbox.protocol import TenantId
from alcove.store import client_tokens, image_caches, pull_secrets
from alcove.store import instances as rows
from alcove.store.instances import PodRow

REPLICAS_LIMIT = 1000
_NAME_LIMIT = 240


class OtherParameters(Conflict):
    """The token came before, with other parameters."""


@dataclass(frozen=True, slots=True)
class Token:
    """``digest`` stands for all that was asked for with it."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``rename``: where the name is taken, another that begins so will do. ``group`` is that of the copies."""

    replicas: int = 1
    token: Token | None = None
    secrets: tuple[PullSecret, ...] = field(default=(), repr=False)
    rename: bool = False
    group: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.replicas <= REPLICAS_LIMIT:
            raise InvalidRequest(f"replicas must be 1 to {REPLICAS_LIMIT}.")


@dataclass(frozen=True, slots=True)
class Made:
    """``ids`` are what the client is told; ``rows`` is empty where it was told the same before."""

    ids: tuple[str, ...]
    rows: Sequence[PodRow] = ()


@dataclass(frozen=True, slots=True)
class Intake:
    """What is to be written for one request."""

    tenant: TenantId
    pod: Pod
    isolation: PodTier
    order: Order
    limit: int
    now_ms: int

    def write(self, connection: sqlite3.Connection) -> Made:
        """Raises ``Conflict`` or ``QuotaExceeded``."""
        if (known := self._known(connection)) is not None:
            return Made(known)
        if rows.count_pods(connection, self.tenant) + self.order.replicas > self.limit:
            raise QuotaExceeded(
                f"A tenant has at most {self.limit} instances.",
                code="instances",
                hint="delete instances, or ask the operator for a higher quota",
            )
        made = [self._insert(connection) for _ in range(self.order.replicas)]
        images = {one.image for one in [*self.pod.spec.containers, *self.pod.spec.init_containers]}
        image_caches.match(connection, self.tenant, images, self.now_ms)
        ids = tuple(row.instance_id for row in made)
        if (token := self.order.token) is not None:
            answer = json.dumps(ids)
            client_tokens.insert_token(connection, self.tenant, token.text, token.digest, answer, self.now_ms)
        return Made(ids, made)

    def _known(self, connection: sqlite3.Connection) -> tuple[str, ...] | None:
        if (token := self.order.token) is None:
            return None
        found = client_tokens.find_token(connection, self.tenant, token.text, self.now_ms)
        if found is None:
            return None
        if not secrets.compare_digest(found[0], token.digest):
            raise OtherParameters(
                "The client token was used with other parameters.", hint="use a new clientToken for a new instance"
            )
        return tuple(json.loads(found[1]))

    def _insert(self, connection: sqlite3.Connection) -> PodRow:
        name = self._name(connection)
        metadata = msgspec.structs.replace(self.pod.metadata, name=name, generate_name="")
        pod = msgspec.structs.replace(self.pod, metadata=metadata)
        row = PodRow(
            *(str(uuid.uuid4()), self.tenant, name, manifest.dump(pod), self.isolation, self.now_ms),
            grace_s=pod.spec.termination_grace_period_seconds,
            group_id=self.order.group,
        )
        rows.insert_pod(connection, row)
        pull_secrets.put(connection, row.uid, dump_secrets(self.order.secrets))
        return row

    def _name(self, connection: sqlite3.Connection) -> str:
        wanted = self.pod.metadata.name
        if wanted and rows.find_pod(connection, self.tenant, wanted) is None:
            return wanted
        if wanted and not self.order.rename:
            raise Conflict(f"There is an instance {wanted} already.", hint="remove it, or choose another name")
        begin = f"{wanted[:_NAME_LIMIT]}-" if wanted else self.pod.metadata.generate_name or "instance-"
        while True:
            name = f"{begin}{secrets.token_hex(4)}"
            if rows.find_pod(connection, self.tenant, name) is None:
                return name
