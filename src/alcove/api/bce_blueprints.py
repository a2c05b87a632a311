"""Functions made of blueprints, as CFC's clients make them: /v1/blueprints."""

from __future__ import annotations

from alcove.api import bce_shapes
from alcove.api.bce import REQUEST_ID, configuration, own_tags
from alcove.api.body import field, read_object, text_map
from alcove.api.context import Call, answer
from alcove.api.dialect import BCE
from alcove.api.router import Route
from alcove.api.schema import MAP, TEXT, Detail, list_of, object_of, record
from alcove.errors import InvalidRequest
from alcove.functions.blueprints import BLUEPRINTS, find_blueprint
from alcove.functions.model import FunctionChange
from alcove.gateway.message import Response


async def list_blueprints(call: Call) -> Response:
    found = [
        {"BlueprintID": one.id, "Runtime": one.runtime, "Handler": one.handler, "Description": one.description}
        for one in BLUEPRINTS.values()
    ]
    return answer({"Blueprints": found}, 200, call.request_id, REQUEST_ID)


async def create_function(call: Call, blueprint: str) -> Response:
    document = read_object(call.request)
    name = field(document, "FunctionName", str)
    if not name:
        raise InvalidRequest("'FunctionName' is required.")
    found = find_blueprint(blueprint)
    environment = field(document, "Environment", dict)
    config = FunctionChange(
        runtime=found.runtime,
        handler=found.handler,
        description=found.description,
        environment=None if environment is None else text_map(environment, "Variables") or {},
    )
    function = await call.faces.service.create(
        call.tenant, call.reference(name).name, found.package(), config, tags=await own_tags(call, document)
    )
    return answer(configuration(function), 201, call.request_id, REQUEST_ID)


_NEW = object_of("FunctionName", FunctionName=TEXT, ServiceName=TEXT, Environment=object_of(Variables=MAP))
_BLUEPRINT = record(BlueprintID=TEXT, Runtime=TEXT, Handler=TEXT, Description=TEXT)
_LIST = Detail(answer=record(Blueprints=list_of(_BLUEPRINT)))
_CREATE = Detail(_NEW, status=201, answer=bce_shapes.FUNCTION)
ROUTES = (
    Route("GET", "/v1/blueprints", list_blueprints, BCE, detail=_LIST),
    Route("POST", "/v1/blueprints/{blueprint}/function", create_function, BCE, detail=_CREATE),
)
