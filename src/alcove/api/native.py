"""Alcove's own API under /alcove/v1: only what the clouds' APIs lack."""

from __future__ import annotations

import msgspec

from alcove.api.body import number
from alcove.api.context import Call, answer, require_operator
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import DECIMAL, MAP, NUMBER, TEXT, Detail, list_of, object_of, one_of, or_null, record
from alcove.gateway.message import Response
from alcove.sandbox.protocol import Isolation

# Lines of one answer: what a client can take, and what it costs to read.
TAIL_LIMIT = 10_000


async def health(call: Call) -> Response:
    document = {**call.faces.host.health(), "pools": call.faces.dispatcher.pools()}
    return answer(document, 200, call.request_id)


async def instances(call: Call) -> Response:
    """The operator sees every tenant's instances and queues, a tenant its own."""
    found, queues = call.faces.dispatcher.instances(), call.faces.dispatcher.queues()
    if not call.operator:
        found = [instance for instance in found if instance["tenant"] == call.tenant]
        queues = [queue for queue in queues if queue["tenant"] == call.tenant]
    return answer({"instances": found, "queues": queues}, 200, call.request_id)


async def environment(call: Call) -> Response:
    """What points SDKs here, with the tenant's first key: for the operator alone, since it holds a
    secret.
    """
    require_operator(call)
    key = call.faces.services.tenants.keys_of(call.tenant)[0]
    url = call.faces.host.endpoint()
    region = call.faces.service.settings.region
    document = {
        "AWS_ENDPOINT_URL_LAMBDA": url,
        "AWS_ENDPOINT_URL_SQS": url,
        "AWS_ENDPOINT_URL_S3": call.faces.host.s3_endpoint(),
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "BCE_ENDPOINT": url,
        "BCE_ACCESS_KEY_ID": key.access_key,
        "BCE_SECRET_ACCESS_KEY": key.secret,
        "ALCOVE_URL": url,
    }
    return answer(document, 200, call.request_id)


async def logs(call: Call, name: str) -> Response:
    function = await call.function(name)
    query = call.request.query
    after, tail = number(query, "after", 0), number(query, "tail", 100)
    log = call.faces.services.logs.of(function.function_id)
    lines = await log.read(after=after, tail=min(tail, TAIL_LIMIT), request=query.get("request", ""))
    cursor = lines[-1].number if lines else after
    return answer({"lines": [msgspec.structs.asdict(line) for line in lines], "cursor": cursor}, 200, call.request_id)


_POOL = record(isolation=one_of(*Isolation), runtime=TEXT, ready=NUMBER, target=NUMBER)
# What a daemon says of itself.
_HEALTH = object_of("status", "pools", status=TEXT, pools=list_of(_POOL), events=NUMBER, uptime_s=DECIMAL)
_INSTANCE = record(
    sandbox=TEXT,
    function=TEXT,
    version=TEXT,
    tenant=TEXT,
    isolation=one_of(*Isolation),
    runtime=TEXT,
    start=TEXT,
    state=one_of("busy", "idle"),
    requests=NUMBER,
    served=NUMBER,
    memory_mib=NUMBER,
    idle_s=DECIMAL,
    memory_peak_mib=or_null(NUMBER),
)
_QUEUE = record(function=TEXT, version=TEXT, tenant=TEXT, waiting=NUMBER, starting=NUMBER)
_INSTANCES = record(instances=list_of(_INSTANCE), queues=list_of(_QUEUE))
_LINE = record(number=NUMBER, time=DECIMAL, request_id=TEXT, text=TEXT)
_LOGS = Detail(query=("after", "tail", "request"), answer=record(lines=list_of(_LINE), cursor=NUMBER))

ROUTES = (
    Route("GET", "/alcove/v1/health", health, AWS, detail=Detail(answer=_HEALTH)),
    Route("GET", "/alcove/v1/instances", instances, AWS, detail=Detail(answer=_INSTANCES)),
    Route("GET", "/alcove/v1/env", environment, AWS, detail=Detail(answer=MAP)),
    Route("GET", "/alcove/v1/functions/{name}/logs", logs, AWS, detail=_LOGS),
)
