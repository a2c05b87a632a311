"""Reads a whole policy, as PutResourcePolicy sends it, into statements; the other way is ``statements.policy``.

What is read is what statements can say and can be held to. All else (denials, negations, wildcards in actions but
``*``, operators and keys that nobody here asks about) is refused in words: a policy that was half kept would let in
whom its owner shuts out.
"""

from __future__ import annotations

import json
import re
from collections.abc import ItemsView, Iterator, Mapping
from typing import Any

from alcove.errors import InvalidRequest
from alcove.functions.statements import CONDITIONS, POLICY_LIMIT, PolicyTooLong, Statement, check_statement

STATEMENTS_LIMIT = 100
_VERSIONS = ("2012-10-17", "2008-10-17")
_MEMBERS = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
_KINDS = ("AWS", "Service")
_ACCOUNT = re.compile(r"[0-9]{12}|arn:.*", re.DOTALL)
# "IAM JSON policy elements: condition operators": these two behave alike.
_SAME_OPERATOR = {"ArnEquals": "ArnLike"}
_BY_WORDS = {(operator, key.lower()): name for name, (operator, key) in CONDITIONS.items()}


def read_policy(text: str, resource: str) -> list[Statement]:
    """Return the statements of a policy about ``resource``. Raises ``InvalidRequest``, ``PolicyTooLong``."""
    if len(text.encode(errors="replace")) > POLICY_LIMIT:
        raise PolicyTooLong(f"The policy is bigger than the limit ({POLICY_LIMIT}).")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("The policy is not JSON.") from None
    if not isinstance(document, dict) or document.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise InvalidRequest(f"The policy must be an object of the Version {_VERSIONS[0]}.")
    _require_known(document, {"Version", "Id", "Statement"}, "a policy")
    found = document.get("Statement")
    stated = [found] if isinstance(found, dict) else found
    if not isinstance(stated, list) or not 0 < len(stated) <= STATEMENTS_LIMIT:
        raise InvalidRequest(f"The policy must have 1 to {STATEMENTS_LIMIT} statements.")
    statements = [_statement(one, number, resource) for number, one in enumerate(stated, 1)]
    if len({one.id for one in statements}) < len(statements):
        raise InvalidRequest("Statement ids (SID) in a single policy must be unique.")
    return statements


def _statement(found: Any, number: int, resource: str) -> Statement:
    if not isinstance(found, dict):
        raise InvalidRequest("A statement must be an object.")
    _require_known(found, _MEMBERS, "a statement")
    if found.get("Effect") != "Allow":
        raise InvalidRequest("'Effect' must be Allow.", hint="whom no statement lets in is shut out")
    if list(_texts(found.get("Resource"), "Resource")) != [resource]:
        raise InvalidRequest(f"'Resource' must be {resource}.")
    sid = found.get("Sid", f"statement-{number}")
    if not isinstance(sid, str):
        raise InvalidRequest("'Sid' must be a string.")
    principals, actions = tuple(_principals(found.get("Principal"))), tuple(_texts(found.get("Action"), "Action"))
    statement = Statement(sid, " ".join(principals), " ".join(actions), _conditions(found.get("Condition", {})))
    for principal in principals:
        for action in actions:
            check_statement(Statement(sid, principal, action, statement.conditions))
    return statement


def _principals(found: Any) -> Iterator[str]:
    if found == "*":
        yield "*"
        return
    if not isinstance(found, dict) or not found:
        raise InvalidRequest("'Principal' must be *, or an object of AWS and Service.")
    _require_known(found, set(_KINDS), "'Principal'")
    for kind, names in found.items():
        for name in _texts(names, "Principal"):
            if (kind == "AWS") is not (name == "*" or _ACCOUNT.fullmatch(name) is not None):
                raise InvalidRequest(f"'Principal' {name[:80]!r} is not of the kind {kind}.")
            yield name


def _conditions(found: Any) -> dict[str, str]:
    conditions: dict[str, str] = {}
    for operator, tests in _members(found):
        for key, value in _members(tests):
            name = _BY_WORDS.get((_SAME_OPERATOR.get(operator, operator), key.lower()))
            if name is None:
                known = ", ".join(" of ".join(one) for one in CONDITIONS.values())
                raise InvalidRequest(f"{operator[:40]!r} of {key[:80]!r} is not a known condition.", hint=known)
            (conditions[name],) = _texts(str(value).lower() if isinstance(value, bool) else value, key, most=1)
    return conditions


def _members(found: Any) -> ItemsView[str, Any]:
    if not isinstance(found, dict):
        raise InvalidRequest("'Condition' must be an object of operators, each with keys and values.")
    return found.items()


def _texts(found: Any, name: str, most: int = 20) -> Iterator[str]:
    """Yield a text, or those of a list."""
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not 0 < len(texts) <= most or not all(isinstance(one, str) for one in texts):
        raise InvalidRequest(f"{name[:80]!r} must be a string, or a list of at most {most}.")
    yield from texts


def _require_known(found: Mapping[str, Any], known: set[str], what: str) -> None:
    for name in found:
        if name not in known:
            raise InvalidRequest(f"{name[:40]!r} is not part of {what} here.", hint=", ".join(sorted(known)))
