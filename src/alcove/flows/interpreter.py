"""Runs one execution: from state to state, branches beside each other, each step written down before the next.

A scope is run by one coroutine, and its place is one checkpoint: the state, how often the scope has come to a state,
the data, attempts made and the moment that it waits for. Branches of ``parallel`` and ``foreach`` are scopes of their
own, named after their parent's, its visit, its attempt and their number, so that a resumed parent finds them again.
States that only compute are not written down one by one: computed again, they come to the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from alcove.flows.data import dump, load, put
from alcove.flows.expression import Expression
from alcove.flows.faults import Fault, FinalFault, runtime_fault
from alcove.flows.journal import Journal, event
from alcove.flows.model import Definition, Kind, Retry, Scope, State
from alcove.functions.names import Reference
from alcove.host.clock import now_ms
from alcove.store.flows import CheckpointRow, EventRow

ITEMS_LIMIT = 500
# Branches of one execution, at any one time.
BRANCHES_LIMIT = 1000
LONGEST_WAIT_S = 172_800
# Events of states that only compute.
WRITTEN_TOGETHER = 20
# Calls a function with an event; returns its answer. Raises ``Fault``.
Call = Callable[[Reference, bytes], Awaitable[bytes]]
_INSTANT = (Kind.PASS, Kind.SWITCH, Kind.SUCCEED, Kind.FAIL)


class Interpreter:
    def __init__(self, definition: Definition, journal: Journal, call: Call) -> None:
        self._definition = definition
        self._journal = journal
        self._call = call
        self._branches = 0

    async def run(self, data: Any) -> Any:
        """Return the output. Raises ``Fault``, ``journal.Gone``."""
        return await self._scope("", self._definition.scope, data)

    async def _scope(self, branch: str, scope: Scope, data: Any) -> Any:
        known = self._journal.point(branch)
        point = known or CheckpointRow(branch, scope.start, 0, 0, dump(data), "[]", 0)
        events: list[EventRow] = []
        while point.state:
            state = scope.states[point.state]
            point, events = await self._step(state, point, events)
            if not point.state or state.kind not in _INSTANT or len(events) > WRITTEN_TOGETHER:
                await self._journal.write(point, events, forget=self._finished(point))
                events = []
        return load(point.data)

    def _finished(self, point: CheckpointRow) -> list[str]:
        """Branches of states that this one has left."""
        children = self._journal.below(f"{point.branch}/")
        return [child for child in children if not child.startswith(f"{point.branch}/{point.visit}.")]

    async def _step(
        self, state: State, point: CheckpointRow, events: list[EventRow]
    ) -> tuple[CheckpointRow, list[EventRow]]:
        """Carry out one state; return where the scope is then, and what is to be written of it."""
        name = state.kind.event_name
        data = load(point.data)
        try:
            if not point.entered:
                data = await _apply(state.filters.input, data)
                events = [*events, event(state.name, f"State{name}Entered", input=data)]
                point = replace(point, entered=1, data=dump(data), due_ms=await _due_ms(state, data))
                if state.kind not in _INSTANT:
                    await self._journal.write(point, events)
                    events = []
            following, output = await self._attempt(state, point, data)
        except FinalFault:
            raise
        except Fault as fault:
            return await self._recover(state, point, events, data, fault)
        events = [*events, event(state.name, f"State{name}Exited", output=output)]
        return _arrive(point, following, output), events

    async def _recover(
        self, state: State, point: CheckpointRow, events: list[EventRow], data: Any, fault: Fault
    ) -> tuple[CheckpointRow, list[EventRow]]:
        """Try again, go where the fault is caught, or raise it."""
        told = {"error": fault.code, "cause": fault.cause}
        retried = _retried(state.retry, point, fault)
        name = state.kind.event_name
        if retried is not None:
            return retried, [*events, event(state.name, f"State{name}Retried", **told)]
        events = [*events, event(state.name, f"State{name}Failed", **told)]
        for rule in state.catch:
            if fault.matches(rule.errors):
                return _arrive(point, rule.next, put(data, ("error",), told)), events
        await self._journal.write(point, events)
        raise fault

    async def _attempt(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        """Return the following state, None at the end of the scope, and the output."""
        await _until(point.due_ms)
        following, output = await _ACTS[state.kind](self, state, point, data)
        output = await _apply(state.filters.output, output)
        dump(output)
        return following, output

    # What each kind does

    async def pass_(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        if state.data is None:
            return state.next, data
        merges = isinstance(data, dict) and isinstance(state.data, dict)
        return state.next, {**data, **state.data} if merges else state.data

    async def switch(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        for choice in state.choices:
            found = await _apply(choice.condition, data)
            if not isinstance(found, bool):
                raise runtime_fault(f"{choice.condition.text[:200]}: must give true or false")
            if found:
                return choice.next, data
        if state.default is None:
            raise runtime_fault("no condition is met, and there is no default")
        return state.default, data

    async def go_on(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        """Of wait, which has waited, and of succeed."""
        return state.next, data

    async def fail(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        raise Fault(state.error or "XFlow.Fail", state.cause)

    async def operation(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        assert state.function is not None
        filters = state.filters
        argument = dump(await _apply(filters.argument, data))
        result = await _apply(filters.result, load(await self._call(state.function, argument.encode()) or b"null"))
        return state.next, result if filters.target is None else put(data, filters.target, result)

    async def parallel(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        found = await self._beside(point, [(scope, data) for scope in state.scopes])
        if not all(isinstance(one, dict) for one in (data, *found)):
            raise runtime_fault("what branches give must be objects, to be put together")
        return state.next, {key: value for one in (data, *found) for key, value in one.items()}

    async def foreach(self, state: State, point: CheckpointRow, data: Any) -> tuple[str | None, Any]:
        items = await _apply(state.collection, data)
        if not isinstance(items, list) or len(items) > ITEMS_LIMIT:
            raise runtime_fault(f"'inputCollection' must give an array of at most {ITEMS_LIMIT} items")
        (scope,) = state.scopes
        found = await self._beside(point, [(scope, {state.parameter: item}) for item in items])
        return state.next, data if state.results is None else put(data, state.results, found)

    async def _beside(self, point: CheckpointRow, work: Sequence[tuple[Scope, Any]]) -> list[Any]:
        """Run scopes beside each other; the first that fails ends the others."""
        self._branches += len(work)
        try:
            if self._branches > BRANCHES_LIMIT:
                raise FinalFault("XFlow.BranchLimitExceeded", f"more than {BRANCHES_LIMIT} branches at once")
            prefix = f"{point.branch}/{point.visit}.{sum(json.loads(point.attempts))}."
            runs = [self._scope(f"{prefix}{number}", *one) for number, one in enumerate(work)]
            return await _gather([asyncio.create_task(run) for run in runs])
        finally:
            self._branches -= len(work)


async def _gather(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = [task for task in tasks if task in done and task.exception() is not None]
        return [task.result() for task in failed or tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _apply(expression: Expression | None, value: Any) -> Any:
    """In a thread, since it may take long; ``.`` needs none."""
    if expression is None or expression.text == ".":
        return value
    return await asyncio.to_thread(expression.apply, value)


async def _due_ms(state: State, data: Any) -> int:
    """Return when a wait ends, 0 for other states."""
    if state.until_ms is not None:
        return state.until_ms
    seconds = state.seconds
    if seconds is None:
        return 0
    if isinstance(seconds, Expression):
        found = await _apply(seconds, data)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= LONGEST_WAIT_S:
            raise runtime_fault(f"{seconds.text[:200]}: must give 0 to {LONGEST_WAIT_S} seconds")
        return now_ms() + int(found * 1000)
    return now_ms() + seconds * 1000


async def _until(due_ms: int) -> None:
    while (left_ms := due_ms - now_ms()) > 0:  # noqa: ASYNC110
        # The clock of the host may be set meanwhile.
        await asyncio.sleep(min(60.0, left_ms / 1000))


def _arrive(point: CheckpointRow, state: str | None, data: Any) -> CheckpointRow:
    return CheckpointRow(point.branch, state or "", point.visit + 1, 0, dump(data), "[]", 0)


def _retried(rules: Sequence[Retry], point: CheckpointRow, fault: Fault) -> CheckpointRow | None:
    """Return the checkpoint of one more attempt, where the first rule that matches has one left."""
    attempts = json.loads(point.attempts) or [0] * len(rules)
    for number, rule in enumerate(rules):
        if fault.matches(rule.errors):
            if attempts[number] >= rule.attempts:
                return None
            attempts[number] += 1
            due_ms = now_ms() + int(rule.delay_s(attempts[number]) * 1000)
            return replace(point, attempts=json.dumps(attempts), due_ms=due_ms)
    return None


_Act = Callable[[Interpreter, State, CheckpointRow, Any], Awaitable[tuple[str | None, Any]]]
_ACTS: dict[Kind, _Act] = {
    Kind.PASS: Interpreter.pass_,
    Kind.SWITCH: Interpreter.switch,
    Kind.WAIT: Interpreter.go_on,
    Kind.SUCCEED: Interpreter.go_on,
    Kind.FAIL: Interpreter.fail,
    Kind.OPERATION: Interpreter.operation,
    Kind.PARALLEL: Interpreter.parallel,
    Kind.FOREACH: Interpreter.foreach,
}
