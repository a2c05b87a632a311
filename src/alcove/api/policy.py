"""The isolation policy, in Alcove's own API: the rules in force, why a function runs where it does, floors."""

from __future__ import annotations

from typing import Any

import msgspec

from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import MAP, NUMBER, TEXT, Detail, list_of, object_of, one_of, or_null, record
from alcove.errors import AccessDenied, InvalidRequest
from alcove.gateway.message import Response
from alcove.policy.decide import CheckState
from alcove.sandbox.protocol import Isolation


async def show(call: Call) -> Response:
    """The rules name tenants: they are for the operator alone."""
    if not call.operator:
        raise AccessDenied("only the operator may read the rules", code="missing", hint="use the UNIX socket")
    return answer(call.faces.service.moves.policy_document, 200, call.request_id)


async def explain(call: Call, name: str) -> Response:
    """Every demand on the isolation of a version, the one that holds first."""
    function = await call.shown(name, call.request.query.get("Qualifier"))
    demands = await call.faces.service.moves.explain(function)
    document = {
        "function": function.name,
        "version": function.version,
        "isolation": str(function.isolation),
        "case": function.cause,
        "reason": function.reason,
        "demands": [
            {"isolation": str(one.isolation), "case": str(one.case), "number": one.case.number, "reason": one.reason}
            for one in demands
        ],
    }
    return answer(document, 200, call.request_id)


async def findings(call: Call, name: str) -> Response:
    """What the automatic checks found in the code of a version and in its layers."""
    function = await call.shown(name, call.request.query.get("Qualifier"))
    document: dict[str, Any] = {"function": function.name, "version": function.version, "state": "off", "findings": []}
    scans = call.faces.services.scans
    if scans is not None:
        document |= {"state": str(CheckState.PASSED), "failed": ""}
        packages = {function.package_sha256: "", **{layer.package_sha256: layer.arn for layer in function.layers}}
        for package, layer in packages.items():
            state, report = await scans.look(package)
            if document["state"] == CheckState.PASSED:
                document |= {"state": str(state), "failed": report.failed if report else ""}
            for one in report.findings if report else ():
                document["findings"].append({"layer": layer, **msgspec.structs.asdict(one)})
    return answer(document, 200, call.request_id)


async def floor(call: Call) -> Response:
    """The weakest tier for all that is the tenant's."""
    return answer({"floor": str(await call.faces.service.moves.floor(call.tenant))}, 200, call.request_id)


async def put_floor(call: Call) -> Response:
    """Set the weakest tier for all that is the tenant's. A tenant can raise it, the operator can lower it too."""
    name = field(read_object(call.request), "floor", str) or ""
    if name not in set(Isolation):
        raise InvalidRequest(f"'floor' must be one of {', '.join(Isolation)}.")
    await call.faces.service.moves.raise_floor(call.tenant, Isolation(name), operator=call.operator)
    return await floor(call)


_TIER = one_of(*Isolation)
_POLICY = record(rules={"type": "object"}, floor=_TIER, tiers=list_of(_TIER), unavailable=MAP)
_DEMAND = record(isolation=_TIER, case=TEXT, number=or_null(NUMBER), reason=TEXT)
_WHY = record(function=TEXT, version=TEXT, isolation=_TIER, case=TEXT, reason=TEXT, demands=list_of(_DEMAND))
_FINDING = record(layer=TEXT, scanner=TEXT, rule=TEXT, severity=TEXT, file=TEXT, line=NUMBER, text=TEXT)
_FINDINGS = record(
    {"failed": TEXT},
    function=TEXT,
    version=TEXT,
    state=one_of("off", *CheckState),
    findings=list_of(_FINDING),
)
_FLOOR = record(floor=_TIER)

_PUT_FLOOR = Detail(object_of("floor", floor=_TIER), answer=_FLOOR)
_EXPLAIN = Detail(query=("Qualifier",), answer=_WHY)
_CHECKED = Detail(query=("Qualifier",), answer=_FINDINGS)

ROUTES = (
    Route("GET", "/alcove/v1/policy", show, AWS, detail=Detail(answer=_POLICY)),
    Route("GET", "/alcove/v1/policy/floor", floor, AWS, detail=Detail(answer=_FLOOR)),
    Route("PUT", "/alcove/v1/policy/floor", put_floor, AWS, detail=_PUT_FLOOR),
    Route("GET", "/alcove/v1/functions/{name}/policy", explain, AWS, detail=_EXPLAIN),
    Route("GET", "/alcove/v1/functions/{name}/findings", findings, AWS, detail=_CHECKED),
)
