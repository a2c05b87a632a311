"""What the test of the control plane kills: a function's life, from its layer to its end.

Argument: a folder. In ``folder/N``, for each N from 1 on, a process of its own leads that life and dies at the N-th
place: before and after each file is renamed or removed; before, in and after each transaction. The last one is not
killed. What the store says after each change that was answered is a line of ``folder/N/told``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from tests.crash.death import Death
from tests.plane import Recorder, zipped

from alcove.functions.aliases import AliasChange, AliasService
from alcove.functions.layering import LayerName, parse_layer_version
from alcove.functions.layers import LayerFacts, LayerService
from alcove.functions.model import FunctionChange
from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory

PLACE = "place"
STATE = {
    "functions": "SELECT name FROM functions",
    "versions": "SELECT version, package_sha256, description FROM versions",
    "aliases": "SELECT name, version FROM aliases",
    "layers": "SELECT version, package_sha256 FROM layer_versions",
}


def control_state(folder: Path) -> dict[str, Any]:
    """Return what the store says, less what is another in each life."""
    connection = sqlite3.connect(folder / "alcove.db")
    try:
        return {name: sorted(map(list, connection.execute(query))) for name, query in STATE.items()}
    finally:
        connection.close()


def deadly(death: Death) -> None:
    """From now on there are places to die at."""

    def around(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*arguments: Any, **options: Any) -> Any:
            death.at(PLACE)
            result = act(*arguments, **options)
            death.at(PLACE)
            return result

        return acting

    transact = around(Database._transact)
    for patch in (
        mock.patch("os.rename", around(os.rename)),
        mock.patch("os.unlink", around(os.unlink)),
        mock.patch.object(Database, "_transact", lambda database, change: transact(database, around(change))),
    ):
        patch.start()


async def live(folder: Path, death: Death) -> None:
    database = await Database.open(folder / "alcove.db")
    tenant = (await TenantDirectory.open(database)).default.id
    service = FunctionService(database, CodeStore(folder / "code"), Recorder())
    aliases, layers = AliasService(database, service), LayerService(database, service)
    deadly(death)
    with (folder / "told").open("w") as told:

        async def change(work: Any) -> Any:
            result = await work
            print(json.dumps(control_state(folder)), file=told, flush=True)
            return result

        layer = await change(layers.publish(tenant, LayerName(tenant, "l"), zipped("layer"), LayerFacts()))
        first = FunctionChange(runtime="python3.11", handler="app.handler", layers=(layer.arn,))
        await change(service.create(tenant, "f", zipped("1"), first))
        await change(service.publish(tenant, "f"))
        await change(aliases.create(tenant, "f", "live", AliasChange("1")))
        await change(service.update_code(tenant, "f", zipped("2")))
        await change(service.update_configuration(tenant, "f", FunctionChange(description="new", layers=())))
        await change(service.publish(tenant, "f"))
        await change(aliases.update(tenant, "f", "live", AliasChange("2")))
        await change(service.delete(tenant, "f", "1"))
        await change(layers.delete(tenant, parse_layer_version(layer.arn)))
        await change(service.delete(tenant, "f"))


def main(folder: Path) -> None:
    number, status = 0, 1
    while status:
        number += 1
        own = folder / str(number)
        own.mkdir()
        pid = os.fork()
        if pid == 0:
            asyncio.run(live(own, Death(PLACE, number)))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status > 0:
            sys.exit(f"life {number} failed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
