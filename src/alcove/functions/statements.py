"""Statements of a resource's policy: who else may do what with it, under which conditions.

The words are those of AWS's policies ("Policy evaluation logic" and "Condition operators" in the IAM user guide), of
which ``AddPermission`` and ``AddLayerVersionPermission`` can write this part: all statements allow. Those of a policy
that was written as a whole (``policy_text``) may have several principals and actions, with spaces between.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alcove.errors import InvalidRequest

_STATEMENT_ID = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_ACTION = re.compile(r"\*|lambda:(\*|[a-zA-Z]{1,60})")
_ACCOUNT = re.compile(r"[0-9]{12}")
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_ARN = re.compile(r"[!-~]{1,512}")
PRINCIPAL_LIMIT = 256
# "Lambda quotas": the size of a resource-based policy.
POLICY_LIMIT = 20 * 1024

# By our names: the operator and the key in a policy's ``Condition``.
CONDITIONS = {
    "source_arn": ("ArnLike", "AWS:SourceArn"),
    "source_account": ("StringEquals", "AWS:SourceAccount"),
    "event_source_token": ("StringEquals", "lambda:EventSourceToken"),
    "url_auth_type": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "via_url": ("Bool", "lambda:InvokedViaFunctionUrl"),
    "organization": ("StringEquals", "aws:PrincipalOrgID"),
}


class PolicyTooLong(InvalidRequest):
    """The policy would be larger than a resource's may be."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``principal`` is a tenant's id, a service such as ``s3.amazonaws.com``, or empty: anybody.

    ``facts`` are those that conditions ask for, by the names in ``CONDITIONS``.
    """

    principal: str
    action: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statement:
    """``conditions`` by the names in ``CONDITIONS``; all must hold."""

    id: str
    principal: str
    action: str
    conditions: Mapping[str, str] = field(default_factory=dict)

    def allows(self, caller: Caller) -> bool:
        return (
            any(_names(one, caller.principal) for one in self.principal.split(" "))
            and any(_covers(one, caller.action) for one in self.action.split(" "))
            and all(_holds(name, wanted, caller.facts.get(name)) for name, wanted in self.conditions.items())
        )

    def document(self, resource: str) -> dict[str, Any]:
        """Return it as it stands in a policy."""
        found: dict[str, Any] = {
            "Sid": self.id,
            "Effect": "Allow",
            "Principal": _principal(self.principal.split(" ")),
            "Action": _one_or_all(self.action.split(" ")),
            "Resource": resource,
        }
        condition: dict[str, dict[str, str]] = {}
        for name, value in self.conditions.items():
            operator, key = CONDITIONS[name]
            condition.setdefault(operator, {})[key] = value
        return {**found, "Condition": condition} if condition else found


def check_statement(statement: Statement) -> Statement:
    """Raises ``InvalidRequest`` for what no policy may say."""
    if not _STATEMENT_ID.fullmatch(statement.id):
        raise InvalidRequest("'StatementId' must have 1 to 100 letters, digits, hyphens or underscores.")
    if not _ACTION.fullmatch(statement.action):
        raise InvalidRequest(f"'Action' {statement.action[:80]!r} is not one such as lambda:InvokeFunction.")
    principal = statement.principal
    known = principal == "*" or any(kind.fullmatch(principal) for kind in (_ACCOUNT, _SERVICE, _ARN))
    if not known or len(principal) > PRINCIPAL_LIMIT:
        raise InvalidRequest(
            f"'Principal' {principal[:80]!r} is not valid.",
            hint="give an account of twelve digits, a service such as s3.amazonaws.com, or *",
        )
    for name, value in statement.conditions.items():
        if not _ARN.fullmatch(value):
            raise InvalidRequest(f"The condition {CONDITIONS[name][1]} has a value that is not valid.")
    return statement


def policy(statements: Sequence[Statement], resource: str) -> str:
    """Return the policy as JSON text. Raises ``PolicyTooLong``."""
    found = {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [statement.document(resource) for statement in statements],
    }
    text = json.dumps(found, separators=(",", ":"))
    if len(text) > POLICY_LIMIT:
        raise PolicyTooLong(f"The final policy size is bigger than the limit ({POLICY_LIMIT}).")
    return text


def policy_revision(text: str) -> str:
    """Return what tells this policy from another: the same words have the same revision."""
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16]))


def like(pattern: str, text: str) -> bool:
    """Whether ``text`` fits a pattern with ``*`` for any part and ``?`` for any character, in at most the product of
    their lengths.
    """
    at = place = back = 0
    star = -1
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, back = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at += 1
            place += 1
        elif star >= 0:
            # The last star takes one more character.
            back += 1
            at, place = star + 1, back
        else:
            return False
    return set(pattern[at:]) <= {"*"}


def arn_like(pattern: str, arn: str) -> bool:
    """Each of the six parts of an ARN is compared by itself."""
    wanted, found = pattern.split(":", 5), arn.split(":", 5)
    return len(wanted) == len(found) and all(map(like, wanted, found))


def _names(stated: str, principal: str) -> bool:
    if stated == "*":
        return True
    return bool(principal) and stated in (principal, f"arn:aws:iam::{principal}:root")


def _covers(stated: str, action: str) -> bool:
    return stated in ("*", "lambda:*") or stated.lower() == action.lower()


def _holds(name: str, wanted: str, fact: str | None) -> bool:
    if fact is None:
        return False
    return arn_like(wanted, fact) if name == "source_arn" else wanted == fact


def _principal(stated: Sequence[str]) -> Any:
    if list(stated) == ["*"]:
        return "*"
    found: dict[str, list[str]] = {}
    for one in stated:
        name = f"arn:aws:iam::{one}:root" if _ACCOUNT.fullmatch(one) else one
        found.setdefault("AWS" if name == "*" or name.startswith("arn:") else "Service", []).append(name)
    return {kind: _one_or_all(names) for kind, names in found.items()}


def _one_or_all(texts: list[str]) -> Any:
    return texts[0] if len(texts) == 1 else texts
