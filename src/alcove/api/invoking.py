"""The Invoke call, as both dialects have it; only the names of headers differ."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

from alcove.api.background import BackgroundInvocations
from alcove.api.documents import check_json
from alcove.api.routing import Call
from alcove.errors import InvalidRequest, TooLarge
from alcove.functions import names
from alcove.functions.model import DispatcherProtocol, InvokeResult
from alcove.functions.service import FunctionService
from alcove.gateway.message import Response

# AWS's and CFC's quotas for payloads.
SYNCHRONOUS_LIMIT = 6 << 20
ASYNCHRONOUS_LIMIT = 256 << 10


@dataclass(frozen=True, slots=True)
class InvokeHeaders:
    """What a dialect calls the parts of an answer."""

    request_id: str
    function_error: str
    log_result: str
    executed_version: str


class Invoker:
    def __init__(
        self,
        service: FunctionService,
        dispatcher: DispatcherProtocol,
        background: BackgroundInvocations,
    ) -> None:
        self._service = service
        self._dispatcher = dispatcher
        self._background = background

    async def invoke(
        self,
        call: Call,
        headers: InvokeHeaders,
        *,
        kind: str = "RequestResponse",
        want_log: bool = False,
        trace_id: str = "",
        client_context: str = "",
    ) -> Response:
        """Answer 200 with the handler's answer or its error document; 202 for Event, 204 for
        DryRun.
        """
        reference = names.parse(call.values["name"], call.query("Qualifier"))
        reference.check_owner(call.tenant.id)
        function = await self._service.resolve(call.tenant.id, reference.name, reference.version)
        event = call.request.body or b"{}"
        check_json(event)
        if kind == "RequestResponse":
            result = await self._dispatcher.invoke(
                function,
                event,
                trace_id=trace_id,
                client_context=client_context,
                want_log=want_log,
            )
            return _answer(result, headers, want_log)
        answered = {headers.request_id: call.request_id, headers.executed_version: function.version}
        if kind == "DryRun":
            return Response(204, answered)
        if kind != "Event":
            raise InvalidRequest("The invocation type is RequestResponse, Event or DryRun.")
        if len(event) > ASYNCHRONOUS_LIMIT:
            raise TooLarge(f"Request must be smaller than {ASYNCHRONOUS_LIMIT} bytes for an Event invocation")
        self._background.accept(function, event, trace_id)
        return Response(202, answered)


def _answer(result: InvokeResult, headers: InvokeHeaders, want_log: bool) -> Response:
    phases = ",".join(f"{name}={value:.3f}" for name, value in result.phases_ms.items())
    answered = {
        "Content-Type": "application/json",
        headers.request_id: result.request_id,
        headers.executed_version: result.executed_version,
        "X-Alcove-Start": f"{result.start}; why={result.why}",
        "X-Alcove-Phases": phases,
        "X-Alcove-Sandbox": result.sandbox_id,
        "X-Alcove-Billed-Ms": str(result.billed_ms),
    }
    if result.error is not None:
        answered[headers.function_error] = result.error
    if want_log:
        answered[headers.log_result] = b64encode(result.log_tail[-4096:]).decode()
    return Response(200, answered, result.payload)
