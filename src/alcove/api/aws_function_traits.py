"""What AWS lets be set for each function and is the same for all of them here: told as it is, and not to be changed.

Terraform's provider and SAM ask for these of every function that they look after.
"""

from __future__ import annotations

from alcove.api import shapes
from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS, NoCodeSigningConfig
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, EMPTY, TEXT, Detail, object_of, one_of, record
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response


async def get_code_signing(call: Call, name: str) -> Response:
    """A function that has no code signing configuration has an empty answer, as on AWS."""
    await call.shown(name)
    return answer({}, 200, call.request_id)


async def put_code_signing(call: Call, name: str) -> Response:
    """There is no code signing configuration that could be named."""
    await call.shown(name)
    raise NoCodeSigningConfig("The code signing configuration cannot be found.", hint="code signing is not offered")


async def delete_code_signing(call: Call, name: str) -> Response:
    await call.shown(name)
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def get_runtime_management(call: Call, name: str) -> Response:
    """Runtimes are those of the guest image, renewed with it."""
    function = await call.shown(name, call.request.query.get("Qualifier"))
    return answer({"UpdateRuntimeOn": "Auto", "FunctionArn": function.arn}, 200, call.request_id)


async def put_runtime_management(call: Call, name: str) -> Response:
    wanted = field(read_object(call.request), "UpdateRuntimeOn", str)
    if wanted != "Auto":
        raise InvalidRequest("'UpdateRuntimeOn' must be Auto.", hint="runtimes are renewed with the guest image")
    return await get_runtime_management(call, name)


async def get_recursion(call: Call, name: str) -> Response:
    """Chains of functions that call each other come to an end: see events/queue.py."""
    await call.shown(name)
    return answer({"RecursiveLoop": "Terminate"}, 200, call.request_id)


async def put_recursion(call: Call, name: str) -> Response:
    wanted = field(read_object(call.request), "RecursiveLoop", str)
    if wanted != "Terminate":
        raise InvalidRequest("'RecursiveLoop' must be Terminate.", hint="loops of functions are always ended here")
    return await get_recursion(call, name)


async def scaling(call: Call, name: str) -> Response:
    """On AWS this is for functions on a capacity provider alone; no function is here."""
    await call.shown(name, call.request.query.get("Qualifier"))
    raise InvalidRequest("The function has no capacity provider.", hint="reserve or provision concurrency instead")


_SIGNING = "/2020-06-30/functions/{name}/code-signing-config"
_MANAGEMENT = "/2021-07-20/functions/{name}/runtime-management-config"
_RECURSION = "/2024-08-31/functions/{name}/recursion-config"
_SCALING = "/2025-11-30/functions/{name}/function-scaling-config"
_GET_SIGNING = Detail(answer=record({"CodeSigningConfigArn": TEXT, "FunctionName": TEXT}))
_PUT_SIGNING = Detail(object_of("CodeSigningConfigArn", CodeSigningConfigArn=TEXT), answer=_GET_SIGNING.answer)
_AUTO = record(UpdateRuntimeOn=one_of("Auto"), FunctionArn=TEXT)
_PUT_MANAGEMENT = Detail(
    object_of("UpdateRuntimeOn", UpdateRuntimeOn=one_of("Auto", "Manual", "FunctionUpdate"), RuntimeVersionArn=TEXT),
    shapes.QUALIFIER,
    answer=_AUTO,
)
_LOOP = record(RecursiveLoop=one_of("Terminate"))
_PUT_RECURSION = Detail(object_of("RecursiveLoop", RecursiveLoop=one_of("Allow", "Terminate")), answer=_LOOP)
_GET_SCALING = Detail(needs=shapes.QUALIFIER, answer=ANYTHING)
_PUT_SCALING = Detail(object_of(FunctionScalingConfig=object_of()), needs=shapes.QUALIFIER, status=202)

ROUTES = (
    Route("GET", _SIGNING, get_code_signing, AWS, detail=_GET_SIGNING),
    Route("PUT", _SIGNING, put_code_signing, AWS, detail=_PUT_SIGNING),
    Route("DELETE", _SIGNING, delete_code_signing, AWS, detail=EMPTY),
    Route("GET", _MANAGEMENT, get_runtime_management, AWS, detail=Detail(query=shapes.QUALIFIER, answer=_AUTO)),
    Route("PUT", _MANAGEMENT, put_runtime_management, AWS, detail=_PUT_MANAGEMENT),
    Route("GET", _RECURSION, get_recursion, AWS, detail=Detail(answer=_LOOP)),
    Route("PUT", _RECURSION, put_recursion, AWS, detail=_PUT_RECURSION),
    Route("GET", _SCALING, scaling, AWS, detail=_GET_SCALING),
    Route("PUT", _SCALING, scaling, AWS, detail=_PUT_SCALING),
)
