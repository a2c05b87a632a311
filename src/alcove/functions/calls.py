"""One request in an instance, and what is written of it."""

from __future__ import annotations

import contextlib
import logging
import time

from alcove.errors import ProtocolError, SandboxGone
from alcove.functions import answers, platform_log
from alcove.functions.deadlines import Deadlines
from alcove.functions.instance import Instance
from alcove.functions.logs import TAIL_BYTES, LogStore
from alcove.functions.model import FunctionVersion, InvokeResult
from alcove.functions.platform_log import Spent
from alcove.sandbox.protocol import InitError, Invocation, Outcome, Start

log = logging.getLogger(__name__)


class Caller:
    """Sends requests into instances and keeps their logs; which instance is not its concern."""

    def __init__(self, logs: LogStore) -> None:
        self._logs = logs
        self._deadlines = Deadlines()

    async def call(self, instance: Instance, invocation: Invocation) -> tuple[Outcome, float]:
        """Return the outcome and its milliseconds; ``instance.gone`` says where the sandbox is lost by it."""
        instance.log.expect(invocation.request_id)
        timeout_s = instance.function.timeout_s
        began = time.perf_counter()
        try:
            with self._deadlines.limit(timeout_s):
                outcome = await instance.sandbox.invoke(invocation)
        except TimeoutError:
            instance.gone = "timeout"
            outcome = Outcome(b"", answers.timed_out(invocation.request_id, timeout_s))
        except SandboxGone as gone:
            instance.gone = gone.reason
            outcome = Outcome(b"", answers.ended(invocation.request_id, gone.reason))
        except ProtocolError:
            instance.gone = "protocol"
            outcome = Outcome(b"", answers.protocol_broken(invocation.request_id))
        except BaseException:
            # Nobody waits for the answer any more; nothing else may be asked of it.
            instance.gone = "killed"
            raise
        instance.served += 1
        return outcome, (time.perf_counter() - began) * 1000

    async def report(self, instance: Instance, request_id: str, duration_ms: float, want_log: bool) -> bytes:
        """Have the request's log written; return its tail where it is wanted."""
        written: list[bytes] | None = [] if want_log else None
        spent = _spent(instance, duration_ms)
        if instance.gone == "timeout":
            await instance.sandbox.measure()
        if instance.gone is not None and instance.active == 1:
            instance.log.flush()
        elif want_log:
            await instance.log.settle(request_id)
        instance.log.report(
            request_id,
            lambda output: self._write(instance, request_id, spent, output, written),
        )
        return written[0][-TAIL_BYTES:] if written else b""

    def _write(
        self,
        instance: Instance,
        request_id: str,
        spent: Spent,
        output: bytes,
        written: list[bytes] | None,
    ) -> None:
        """Write the request's log, into ``written`` too where there is one."""
        function, peak_mib = instance.function, instance.sandbox.memory_peak_mib()
        before, after = platform_log.around(function, request_id, spent, peak_mib)
        printed = output.decode(errors="replace").splitlines() if output else ()
        lines = (*before, *printed, *after)
        try:
            self._logs.append(function.function_id, request_id, lines)
        except OSError as error:
            log.warning("the log of %s cannot be written: %s", function.name, error)
        if written is not None:
            written.append("\n".join((*lines, "")).encode())

    def init_failed(
        self, function: FunctionVersion, request_id: str, error: InitError, duration_ms: float
    ) -> InvokeResult:
        """Return the answer to a call whose instance could not be made, through the function's own fault."""
        text = f"INIT_REPORT RequestId: {request_id} Status: error {error.document.decode(errors='replace')}"
        with contextlib.suppress(OSError):
            self._logs.append(function.function_id, request_id, [text])
        return InvokeResult(
            payload=error.document,
            error="Unhandled",
            request_id=request_id,
            start="failed",
            why="the init code failed",
            phases_ms={},
            billed_ms=max(1, round(duration_ms)),
            log_tail=text.encode()[-TAIL_BYTES:],
            executed_version=function.version,
            sandbox_id="",
        )


def _spent(instance: Instance, duration_ms: float) -> Spent:
    """The first request of an instance is told what its start took, where its own code had to do with that."""
    if instance.served != 1:
        return Spent(duration_ms)
    if instance.sandbox.start is Start.SNAPSHOT:
        return Spent(duration_ms, restore_ms=instance.phases_ms.get("obtain"))
    return Spent(duration_ms, init_ms=instance.phases_ms.get("init"))
