"""What the test of buckets kills: store, outbox and queue, under writes, uploads in parts and removals.

Arguments: folder, seed. Prints ``NAME DIGEST`` (``-`` for removed) for each change that was answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from alcove.buckets.assembly import Completion, NamedPart
from alcove.buckets.change import Cause
from alcove.buckets.contents import Arrival, Expected, Late
from alcove.buckets.errors import BucketExists
from alcove.buckets.model import PART_LEAST, Attributes, Limits
from alcove.buckets.outbox import Outbox
from alcove.buckets.rules import Rule
from alcove.buckets.service import BucketService
from alcove.events.queue import EventQueue
from alcove.sandbox.protocol import TenantId

TENANT = TenantId("111111111111")
EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")


def arrival(data: bytes) -> Arrival:
    async def content() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 40_000):
            yield data[start : start + 40_000]

    return Arrival(content(), Expected(len(data)), frozenset(), Late())


async def change(store: BucketService, key: str, chance: random.Random) -> None:
    kind = chance.random()
    if kind < 0.25:
        await store.delete(TENANT, "bucket", [key], Cause())
        print(key, "-", flush=True)
    elif kind < 0.35:
        parts = [chance.randbytes(8) * (PART_LEAST // 8), chance.randbytes(1000)]
        upload = await store.uploads.begin(TENANT, "bucket", key, Attributes())
        where = ("bucket", key, upload)
        known = [
            NamedPart(n, (await store.uploads.put_part(TENANT, where, n, arrival(data)))[0].etag, {})
            for n, data in enumerate(parts, 1)
        ]
        if chance.random() < 0.5:
            await store.uploads.abort(TENANT, where)
        else:
            await store.uploads.complete(TENANT, where, Completion(tuple(known)), Cause())
            print(key, hashlib.sha256(b"".join(parts)).hexdigest(), flush=True)
    else:
        data = chance.randbytes(chance.randint(0, 200_000))
        await store.put(TENANT, "bucket", key, arrival(data), Attributes(), Cause())
        print(key, hashlib.sha256(data).hexdigest(), flush=True)


async def worker(store: BucketService, number: int, chance: random.Random) -> None:
    """Its keys are its own, so that the order of its changes is known."""
    while True:
        await change(store, f"{number}/{chance.randint(0, 3)}", chance)


async def everyone(*_: object) -> bool:
    return True


async def main(folder: str, seed: str) -> None:
    store = await BucketService.open(Path(folder), Limits(1 << 40, 1 << 20), "r")
    queue = await EventQueue.open(Path(folder) / "events.db")
    outbox = Outbox(store.database, queue, everyone)
    store.changed = outbox.look
    outbox.start()
    try:
        await store.create_bucket(TENANT, "bucket")
    except BucketExists:
        pass
    await store.set_rules(TENANT, "bucket", [Rule("all", EVENTS, "f", "$LATEST")])
    print("ready", "-", flush=True)
    await asyncio.gather(*(worker(store, number, random.Random(f"{seed}/{number}")) for number in range(4)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
