"""Uploads that nobody completes are aborted, and their room is free again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from alcove.buckets.change import Cause
from alcove.buckets.contents import Arrival, Expected, Late
from alcove.buckets.errors import NoSuchUpload
from alcove.buckets.expiry import UploadExpiry
from alcove.buckets.model import Attributes, Limits
from alcove.buckets.service import BucketService
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId

ME = TenantId("111111111111")
LIMITS = Limits(1 << 20, 50, uploads_kept_ms=3_600_000)


def arrival(data: bytes) -> Arrival:
    async def content() -> AsyncIterator[bytes]:
        yield data

    return Arrival(content(), Expected(len(data)), frozenset(), Late())


def files(folder: Path) -> int:
    return sum(1 for one in (folder / "buckets").glob("??/*"))


async def test_an_old_upload_goes_with_its_parts(tmp_path: Path) -> None:
    store = await BucketService.open(tmp_path, LIMITS, "r")
    await store.create_bucket(ME, "bucket")
    upload = await store.uploads.begin(ME, "bucket", "k", Attributes())
    where = ("bucket", "k", upload)
    await store.uploads.put_part(ME, where, 1, arrival(b"x" * 1000))
    began = (await store.uploads.list(ME, "bucket"))[0].created_ms
    expiry = UploadExpiry(store)
    assert await expiry.sweep(began + LIMITS.uploads_kept_ms) == 0
    assert files(tmp_path) == 1
    assert await expiry.sweep(began + LIMITS.uploads_kept_ms + 1) == 1
    assert (files(tmp_path), await store.uploads.list(ME, "bucket")) == (0, [])
    with pytest.raises(NoSuchUpload):
        await store.uploads.put_part(ME, where, 2, arrival(b"x"))
    assert files(tmp_path) == 0
    # What the parts had taken of the quota is free.
    await store.put(ME, "bucket", "k", arrival(b"x" * LIMITS.bytes), Attributes(), Cause())
    await store.close()


async def test_a_server_that_was_down_makes_up_for_it(tmp_path: Path) -> None:
    store = await BucketService.open(tmp_path, LIMITS, "r")
    await store.create_bucket(ME, "bucket")
    for number in range(250):
        await store.uploads.begin(ME, "bucket", f"k{number}", Attributes())
    await store.database.write(
        lambda connection: connection.execute(
            "UPDATE uploads SET created_ms = ? WHERE key <> 'k7'", (now_ms() - LIMITS.uploads_kept_ms - 1000,)
        )
    )
    await store.close()
    store = await BucketService.open(tmp_path, LIMITS, "r")
    expiry = UploadExpiry(store)
    expiry.start()
    while len(await store.uploads.list(ME, "bucket")) > 1:  # the test's own time limit ends this
        pass
    assert [one.key for one in await store.uploads.list(ME, "bucket")] == ["k7"]
    await expiry.close()
    await store.close()
