"""Webhooks: relations whose events are posted to this server, signed with a secret of their own.

``X-Alcove-Signature: t=SECONDS,v1=HEX`` bears the Unix time of sending and the HMAC-SHA256, by the relation's secret,
of ``SECONDS.BODY``. It counts for ``MAX_SKEW_S`` and once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from alcove.errors import AccessDenied, NotFound, ThrottledError
from alcove.triggers.relation import Address, Relation, enabled, texts

HEADER = "x-alcove-signature"
MAX_SKEW_S = 300
# Signatures that are remembered against repetition: as many as may come while they count.
SEEN_LIMIT = 200_000
_FORM = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")
_NOBODY = secrets.token_hex(32)


def sign(secret: str, body: bytes, sent_s: int) -> str:
    """Return the header's value."""
    return f"t={sent_s},v1={_mac(secret, body, sent_s)}"


def _mac(secret: str, body: bytes, sent_s: int) -> str:
    return hmac.new(secret.encode(), b"%d." % sent_s + body, hashlib.sha256).hexdigest()


class WebhookSource:
    """DuerOS and DuEdge: what is posted is the event, and the function's answer the response."""

    address = Address.RELATION
    signed = True

    def __init__(self) -> None:
        self._held: dict[str, Relation] = {}
        self._seen: OrderedDict[str, int] = OrderedDict()

    def check(self, data: Mapping[str, Any]) -> dict[str, Any]:
        enabled(data, "Status")
        return dict(data)

    async def attach(self, relation: Relation) -> None:
        self._held[relation.row.endpoint] = relation

    async def detach(self, relation: Relation) -> None:
        self._held.pop(relation.row.endpoint, None)

    def accept(self, endpoint: str, body: bytes, header: str, now_s: float) -> Relation:
        """Return the relation that the event is for. Raises ``AccessDenied``; who cannot sign is not told whether
        there is such an address.
        """
        relation = self._held.get(endpoint)
        form = _FORM.fullmatch(header)
        sent_s = int(form[1]) if form else 0
        expected = _mac(relation.row.secret if relation else _NOBODY, body, sent_s)
        if form is None or not hmac.compare_digest(form[2], expected) or relation is None:
            raise AccessDenied("The event's signature does not match.", hint=f"send {HEADER}: t=SECONDS,v1=HEX")
        if abs(now_s - sent_s) > MAX_SKEW_S:
            raise AccessDenied("The event's signature has expired.", code="expired", hint="check the sender's clock")
        if not enabled(relation.data, "Status"):
            raise NotFound("The relation is disabled.")
        self._remember(f"{endpoint}.{form[2]}", sent_s, now_s)
        return relation

    def _remember(self, signature: str, sent_s: int, now_s: float) -> None:
        while self._seen and next(iter(self._seen.values())) < now_s - 2 * MAX_SKEW_S:
            self._seen.popitem(last=False)
        if signature in self._seen:
            raise AccessDenied("The event was sent before.", hint="sign each event with its own time")
        if len(self._seen) >= SEEN_LIMIT:
            raise ThrottledError("Too many events came.", hint="try again later")
        self._seen[signature] = int(now_s)

    def wanted(self, relation: Relation, event: Any) -> Any:
        """Return what of the event the function is to get, None where it is nothing."""
        return event


class CdnSource(WebhookSource):
    """CDN: an object whose ``events`` are a list; those of the relation's EventType and Domains call the function.

    Data: EventType (a name or a list), Domains (a list; without it all), Remark, Status.
    """

    def check(self, data: Mapping[str, Any]) -> dict[str, Any]:
        texts(data, "EventType")
        texts(data, "Domains")
        return super().check(data)

    def wanted(self, relation: Relation, event: Any) -> Any:
        events = event.get("events") if isinstance(event, dict) else None
        if not isinstance(events, list):
            return None
        kinds, domains = texts(relation.data, "EventType"), texts(relation.data, "Domains")
        found = [one for one in events if _fits(one, kinds, domains)]
        return {**event, "events": found} if found else None


def _fits(event: Any, kinds: list[str], domains: list[str]) -> bool:
    if not isinstance(event, dict):
        return False
    detail = event.get("eventDetail")
    domain = detail.get("domain") if isinstance(detail, dict) else None
    return (not kinds or event.get("eventName") in kinds) and (not domains or domain in domains)
