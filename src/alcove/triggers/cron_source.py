"""The source of relations that are timers: ``cfc-crontab-trigger/v1/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alcove.errors import InvalidRequest, NotFound
from alcove.host.clock import now_ms
from alcove.triggers.relation import Address, Relation, enabled, text
from alcove.triggers.schedule import parse_schedule
from alcove.triggers.timer import Shape, TimerId
from alcove.triggers.timers import TimerService, TimerSpec, check_input

NAME = "cfc-crontab-trigger/v1/"


class CronSource:
    """Each relation is a timer that bears its id. Data: Name, ScheduleExpression, Enabled, Input (JSON, or its text),
    TimeZone (our own; UTC without it).
    """

    address = Address.NONE
    signed = False

    def __init__(self, timers: TimerService) -> None:
        self._timers = timers
        # By relation: a timer's row may be gone before the relation is detached.
        self._ids: dict[str, TimerId] = {}

    def check(self, data: Mapping[str, Any]) -> dict[str, Any]:
        text(data, "Name")
        parse_schedule(text(data, "ScheduleExpression"), text(data, "TimeZone", default="UTC"), now_ms())
        enabled(data, "Enabled")
        check_input(_input(data))
        return dict(data)

    async def attach(self, relation: Relation) -> None:
        data, row = relation.data, relation.row
        spec = TimerSpec(
            function=row.function,
            schedule=data["ScheduleExpression"],
            qualifier=row.qualifier,
            zone=data.get("TimeZone", "UTC"),
            input=_input(data),
            enabled=enabled(data, "Enabled"),
            shape=Shape.CFC,
        )
        name = _timer(relation)
        try:
            timer = await self._timers.get(relation.tenant, name)
        except NotFound:
            timer = await self._timers.create(relation.tenant, name, spec)
            self._ids[relation.id] = timer.id
            return
        self._ids[relation.id], known = timer.id, timer.row
        # Writing it anew without a change would give up runs that were missed.
        have = (known.function, known.qualifier, known.schedule, known.zone, known.input, bool(known.enabled))
        want = (spec.function, spec.qualifier, spec.schedule.strip(), spec.zone, spec.input, spec.enabled)
        if have != want:
            await self._timers.update(relation.tenant, name, spec)

    async def detach(self, relation: Relation) -> None:
        timer_id = self._ids.pop(relation.id, None)
        if timer_id is not None:
            self._timers.runs.drop(timer_id)
        try:
            await self._timers.delete(relation.tenant, _timer(relation))
        except NotFound:
            pass


def _timer(relation: Relation) -> str:
    return f"relation.{relation.id}"


def _input(data: Mapping[str, Any]) -> str:
    """Return the event as JSON text; text that is JSON is taken as it is."""
    given = data.get("Input")
    if given is None or given == "":
        return ""
    if isinstance(given, str):
        try:
            json.loads(given)
        except (ValueError, RecursionError):
            raise InvalidRequest("Data.Input must be JSON.") from None
        return given
    return json.dumps(given)
