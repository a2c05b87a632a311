"""What the test of relations kills: a function with relations, at the step of its deletion at which it dies.

Arguments: folder, the step (``deleting``: the function's row is gone, in a transaction that is not at its end;
``deleted``: it is). Prints nothing: the store tells.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from tests.crash.death import Death
from tests.plane import PYTHON, Recorder, zipped

from alcove.functions import service as functions
from alcove.images.code import CodeStore
from alcove.sandbox.protocol import TenantId
from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory
from alcove.triggers import cron_source, http_source
from alcove.triggers.cron_source import CronSource
from alcove.triggers.http_source import HttpSource
from alcove.triggers.relations import RelationService
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timers import TimerService

CRON = {"Name": "n", "ScheduleExpression": "rate(1 day)"}
HTTP = {"ResourcePath": "/x", "Method": "GET"}


class Nobody:
    async def submit(self, *arguments: Any, **options: Any) -> str:
        raise AssertionError


async def main(folder: str, step: str) -> None:
    death = Death(step, 1)
    database = await Database.open(Path(folder) / "alcove.db")
    tenant = (await TenantDirectory.open(database)).default.id
    service = functions.FunctionService(database, CodeStore(Path(folder) / "code"), Recorder())
    timers = TimerService(database, service, TimerRuns(database, Nobody(), region="r", window_ms=1000))
    sources = {cron_source.NAME: CronSource(timers), http_source.NAME: HttpSource()}
    relations = RelationService(database, service, sources)
    await service.create(tenant, "f", zipped("1"), PYTHON)
    await relations.create(tenant, "f", "", cron_source.NAME, CRON)
    await relations.create(tenant, "f", "", http_source.NAME, HTTP)

    async def gone(tenant: TenantId, name: str) -> None:
        death.at("deleted")

    service.on_gone = gone
    remove = functions.rows.delete_function

    def deadly(*arguments: Any) -> None:
        remove(*arguments)
        death.at("deleting")

    with mock.patch.object(functions.rows, "delete_function", deadly):
        await service.delete(tenant, "f")


asyncio.run(main(*sys.argv[1:]))
