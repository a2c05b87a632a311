"""How states call functions: the tenant's own, by the platform's own way, so with its caps, metering and logs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from alcove.errors import AlcoveError, NotFound, RequestError, ThrottledError
from alcove.flows.faults import FUNCTION, NOT_FOUND, RUNTIME, SERVICE, THROTTLED, Fault
from alcove.functions.model import DispatcherProtocol, FunctionResolver, InvokeResult
from alcove.functions.names import Reference
from alcove.sandbox.protocol import TenantId

# Calls that the flows of one tenant have running at once.
PLACES_OF_ONE = 16


class FunctionCaller:
    """A call goes on to its end where whoever asked for it goes away; ``close`` waits for those."""

    def __init__(self, functions: FunctionResolver, dispatcher: DispatcherProtocol) -> None:
        self._functions = functions
        self._dispatcher = dispatcher
        self._running: set[asyncio.Task[InvokeResult]] = set()
        self._places: dict[TenantId, asyncio.Semaphore] = {}
        self._users: Counter[TenantId] = Counter()

    async def call(self, tenant: TenantId, reference: Reference, event: bytes) -> bytes:
        """Return the function's answer. Raises ``Fault``."""
        places = self._places.setdefault(tenant, asyncio.Semaphore(PLACES_OF_ONE))
        self._users[tenant] += 1
        try:
            async with places:
                return _answer(await self._invoke(tenant, reference, event))
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._places[tenant]

    async def _invoke(self, tenant: TenantId, reference: Reference, event: bytes) -> InvokeResult:
        try:
            reference.check_owner(tenant)
            function = await self._functions.resolve(tenant, reference.name, reference.version)
            task = asyncio.create_task(self._dispatcher.invoke(function, event))
            self._running.add(task)
            task.add_done_callback(self._ended)
            return await asyncio.shield(task)
        except ThrottledError as error:
            raise Fault(THROTTLED, str(error)) from None
        except NotFound as error:
            raise Fault(NOT_FOUND, str(error)) from None
        except RequestError as error:
            raise Fault(RUNTIME, str(error)) from None
        except AlcoveError as error:
            raise Fault(SERVICE, str(error)) from None

    def _ended(self, task: asyncio.Task[InvokeResult]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Nobody may be left to look at it.
            task.exception()

    async def close(self, timeout_s: float) -> None:
        running = list(self._running)
        if running:
            await asyncio.wait(running, timeout=timeout_s)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _answer(result: InvokeResult) -> bytes:
    if result.error is None:
        return result.payload
    document: Any = None
    try:
        document = json.loads(result.payload)
    except (ValueError, RecursionError):
        pass
    told = document if isinstance(document, dict) else {}
    kind, message = told.get("errorType"), told.get("errorMessage")
    code = f"CFC.{kind[:100]}" if isinstance(kind, str) and kind else FUNCTION
    raise Fault(code, message if isinstance(message, str) else "the function failed", (FUNCTION, RUNTIME))
