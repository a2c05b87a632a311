"""The store of buckets without its face: what is stored, counted, told of and left over."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from alcove.api import s3_conditions
from alcove.buckets import rules
from alcove.buckets.change import Cause
from alcove.buckets.contents import Arrival, Expected, Late
from alcove.buckets.errors import (
    BadArgument,
    BadBucketName,
    BadDigest,
    BadRequest,
    IncompleteBody,
    InvalidDigest,
    InvalidRange,
    NoSuchKey,
    QuotaExceeded,
    SlowDown,
)
from alcove.buckets.listing import Listing
from alcove.buckets.model import Attributes, Limits
from alcove.buckets.names import check_bucket, check_key
from alcove.buckets.outbox import Outbox
from alcove.buckets.quota import UPLOADS_AT_ONCE
from alcove.buckets.rules import Rule
from alcove.buckets.service import BucketService
from alcove.errors import AlcoveError, ThrottledError
from alcove.functions.statements import Caller
from alcove.sandbox.protocol import TenantId

ME = TenantId("111111111111")
LIMITS = Limits(1 << 20, 50)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        await asyncio.sleep(0)
        yield one


def arrival(*data: bytes, size: int | None = None, **checks: Any) -> Arrival:
    length = sum(map(len, data)) if size is None else size
    return Arrival(pieces(*data), Expected(length, **checks), frozenset(), Late())


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[BucketService]:
    service = await BucketService.open(tmp_path, LIMITS, "r")
    await service.create_bucket(ME, "bucket")
    yield service
    await service.close()


async def put(store: BucketService, key: str, *data: bytes, **options: Any) -> None:
    await store.put(ME, "bucket", key, arrival(*data), Attributes(), Cause(), **options)


async def get(store: BucketService, key: str) -> bytes:
    async with store.open_object(ME, "bucket", key) as opened:
        return b"".join([data async for data in opened.read(0, opened.object.size)])


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "buckets").rglob("*") if path.is_file()]


@pytest.mark.parametrize("text", ["{}", '{"headers": {}, "metadata": {}, "checksums": {}}'])
async def test_objects_of_before_are_listed(store: BucketService, text: str) -> None:
    """Written when their checksums had no kind, or were not kept."""
    await put(store, "k", b"x")
    await store.database.write(lambda connection: connection.execute("UPDATE objects SET attributes = ?", (text,)))
    assert [one.attributes for one in (await store.page(ME, "bucket", Listing())).objects] == [Attributes()]


async def test_what_is_replaced_or_removed_leaves_no_file(store: BucketService, tmp_path: Path) -> None:
    for data in (b"one", b"two"):
        await put(store, "k", data)
    assert await get(store, "k") == b"two"
    assert len(files(tmp_path)) == 1
    await store.delete(ME, "bucket", ["k", "never"], Cause())
    assert files(tmp_path) == []
    with pytest.raises(NoSuchKey):
        await get(store, "k")


async def test_an_object_that_is_read_stays_until_that_is_done(store: BucketService, tmp_path: Path) -> None:
    await put(store, "k", b"old" * 1000)
    async with store.open_object(ME, "bucket", "k") as opened:
        await put(store, "k", b"new")
        await store.delete(ME, "bucket", ["k"], Cause())
        assert b"".join([data async for data in opened.read(3, 3)]) == b"old"
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: arrival(b"x", size=2), IncompleteBody),
        (lambda: arrival(b"xyz", size=2), IncompleteBody),
        (lambda: arrival(b"x", md5="AAAAAAAAAAAAAAAAAAAAAA=="), BadDigest),
        (lambda: arrival(b"x", md5="?"), InvalidDigest),
        (lambda: arrival(b"x", checksums={"crc32": "AAAAAA=="}), BadDigest),
        (lambda: arrival(b"x", checksums={"crc99": "AAAAAA=="}), BadRequest),
    ],
)
async def test_what_does_not_match_is_not_stored(
    store: BucketService, tmp_path: Path, made: Any, error: type[AlcoveError]
) -> None:
    with pytest.raises(error):
        await store.put(ME, "bucket", "k", made(), Attributes(), Cause())
    assert files(tmp_path) == []
    assert (await store.page(ME, "bucket", Listing())).objects == ()


async def test_an_upload_that_is_cancelled_leaves_nothing_or_all(store: BucketService, tmp_path: Path) -> None:
    for delay in range(40):
        task = asyncio.create_task(put(store, "k", b"x" * 1000, b"y"))
        for _ in range(delay):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*store._landing._committing)
        kept = (await store.page(ME, "bucket", Listing())).objects
        assert len(files(tmp_path)) == len(kept)
        if kept:
            assert await get(store, "k") == b"x" * 1000 + b"y"
            await store.delete(ME, "bucket", ["k"], Cause())


async def test_quotas_count_what_is_on_its_way(store: BucketService, tmp_path: Path) -> None:
    half = b"x" * (600 << 10)
    outcomes = await asyncio.gather(*(put(store, f"k{n}", half) for n in range(2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(QuotaExceeded) == 1
    await store.delete(ME, "bucket", ["k0", "k1"], Cause())
    await put(store, "k", half)
    # One tenant's quota is its own.
    other = TenantId("222222222222")
    await store.create_bucket(other, "bucket")
    await store.put(other, "bucket", "k", arrival(half), Attributes(), Cause())
    upload = await store.uploads.begin(ME, "bucket", "parts", Attributes())
    with pytest.raises(QuotaExceeded):
        await store.uploads.put_part(ME, ("bucket", "parts", upload), 1, arrival(half))
    for number in range(LIMITS.objects - 1):
        await put(store, f"small{number}", b"")
    with pytest.raises(QuotaExceeded):
        await put(store, "one-more", b"")
    await put(store, "k", b"replaced: as many as before")


async def test_nothing_is_left_of_a_tenant(store: BucketService, tmp_path: Path) -> None:
    await store.set_rules(ME, "bucket", [Rule("r", ("s3:ObjectCreated:*",), "f", "$LATEST")])
    for number in range(3):
        await put(store, f"k{number}", b"x")
    upload = await store.uploads.begin(ME, "bucket", "parts", Attributes())
    await store.uploads.put_part(ME, ("bucket", "parts", upload), 1, arrival(b"x"))
    await store.delete_every(ME)
    await store.delete_every(ME)
    assert files(tmp_path) == []
    for table in ("buckets", "objects", "segments", "uploads", "parts", "stored", "outbox", "hooks"):
        count = await store.database.read(
            lambda connection, table=table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        )
        assert count == 0, table


async def test_one_tenant_has_so_many_uploads_at_once(store: BucketService) -> None:
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        await release.wait()
        yield b"x"

    def begin(key: str) -> asyncio.Task[Any]:
        coming = Arrival(slow(), Expected(1), frozenset(), Late())
        return asyncio.create_task(store.put(ME, "bucket", key, coming, Attributes(), Cause()))

    running = [begin(f"k{number}") for number in range(UPLOADS_AT_ONCE)]
    await asyncio.sleep(0.2)
    with pytest.raises(SlowDown):
        await begin("one-more")
    release.set()
    await asyncio.gather(*running)


class Sink:
    """A queue that keeps what it accepts, and refuses while it is told to."""

    def __init__(self) -> None:
        self.accepted: dict[str, tuple[str, dict[str, Any]]] = {}
        self.refuses: set[str] = set()

    async def submit(self, tenant: TenantId, function: str, event: bytes, **options: Any) -> str:
        if tenant in self.refuses:
            raise ThrottledError("full")
        assert options["source"] == "s3"
        self.accepted.setdefault(options["request_id"], (function, json.loads(event)))
        return str(options["request_id"])


async def test_changes_are_told_once_to_whom_they_concern(store: BucketService) -> None:
    images = Rule("images", ("s3:ObjectCreated:*",), "tag", "$LATEST", "in/", ".jpg")
    gone = Rule("gone", ("s3:ObjectRemoved:Delete",), "forget", "3")
    shut = Rule("shut", ("s3:ObjectCreated:*",), "shut", "$LATEST")
    await store.set_rules(ME, "bucket", [images, gone, shut])
    sink = Sink()
    asked: list[tuple[str, str, str]] = []

    async def may(tenant: TenantId, function: str, qualifier: str, caller: Caller) -> bool:
        asked.append((tenant, function, caller.facts["source_arn"]))
        return function != "shut"

    outbox = Outbox(store.database, sink, may)
    await put(store, "in/a b.jpg", b"12345")
    await put(store, "in/a.txt", b"")
    await put(store, "in/c.jpg", b"", event="s3:ObjectCreated:Copy")
    await store.delete(ME, "bucket", ["in/a.txt", "not there"], Cause("who", "r1", "10.0.0.1"))
    sink.refuses = {ME}
    assert await outbox.drain() == {ME}
    assert sink.accepted == {}
    sink.refuses = set()
    assert await outbox.drain() == set()
    told = [(function, event["Records"][0]) for function, event in sink.accepted.values()]
    names = [(function, one["eventName"], one["s3"]["object"]["key"]) for function, one in told]
    assert names == [
        ("tag", "ObjectCreated:Put", "in/a+b.jpg"),
        ("tag", "ObjectCreated:Copy", "in/c.jpg"),
        ("forget", "ObjectRemoved:Delete", "in/a.txt"),
    ]
    first, last = told[0][1], told[2][1]
    assert first["s3"]["object"]["size"] == 5
    assert first["s3"]["object"]["eTag"] == hashlib.md5(b"12345").hexdigest()
    assert (last["userIdentity"]["principalId"], last["requestParameters"]["sourceIPAddress"]) == ("who", "10.0.0.1")
    assert "size" not in last["s3"]["object"]
    sequencers = [one["s3"]["object"]["sequencer"] for _, one in told]
    assert sequencers == sorted(set(sequencers))
    assert all(uuid.UUID(one) for one in sink.accepted)
    assert (ME, "shut", "arn:aws:s3:::bucket") in asked


def test_rules_that_make_no_sense_are_refused() -> None:
    good = Rule("a", ("s3:ObjectCreated:*",), "f", "$LATEST")
    for bad in (
        [Rule("a", ("s3:ReducedRedundancyLostObject",), "f", "1")],
        [Rule("a", (), "f", "1")],
        [good, good],
        [Rule(str(n), good.events, "f", "1") for n in range(101)],
    ):
        with pytest.raises(BadArgument):
            rules.check(bad)
    assert rules.load(rules.dump([good])) == (good,)


@pytest.mark.parametrize("name", ["ab", "A-b", "a_b", "-ab", "ab-", "a..b", "127.0.0.1", "a" * 64, "é-bucket", "a/b"])
def test_bad_names_of_buckets(name: str) -> None:
    with pytest.raises(BadBucketName):
        check_bucket(name)


@pytest.mark.parametrize("key", ["", "\0", "\x1b", "\ud800", "x" * 1025, "ü" * 513])
def test_bad_keys(key: str) -> None:
    with pytest.raises(AlcoveError):
        check_key(key)


@given(st.integers(0, 20), st.integers(0, 25), st.integers(0, 25))
def test_ranges_are_those_of_a_slice(size: int, first: int, last: int) -> None:
    data = bytes(range(size))

    def cut(header: str) -> bytes | None:
        try:
            found = s3_conditions.parse_range(header, size)
        except InvalidRange:
            return b""
        return None if found is None else data[found[0] : found[0] + found[1]]

    assert cut(f"bytes={first}-") == data[first:]
    assert cut(f"bytes=-{last}") == (data[-last:] if last else b"")
    assert cut(f"bytes={first}-{last}") == (None if last < first else data[first : last + 1])
    assert cut("bytes=0-1,3-4") is None


KEYS = st.text(st.sampled_from("ab/é\U0010ffff"), min_size=1, max_size=5)


@given(
    st.sets(KEYS, max_size=30),
    st.text(st.sampled_from("ab/"), max_size=2),
    st.sampled_from(["", "/", "b/"]),
    st.integers(1, 6),
)
def test_pages_together_are_the_whole_listing(keys: set[str], prefix: str, delimiter: str, limit: int) -> None:
    import sqlite3

    from alcove.store.database import migrations

    connection = sqlite3.connect(":memory:")
    connection.executescript(migrations("buckets")[0][1])
    connection.execute("INSERT INTO buckets VALUES ('b', 't', 'n', '[]', 0)")
    for number, key in enumerate(keys, 1):
        connection.execute("INSERT INTO objects VALUES (?, 'b', ?, 0, '', 0, '{}')", (number, key))
    wanted_keys, wanted_prefixes = set(), set()
    for key in keys:
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                wanted_keys.add(key)
            else:
                wanted_prefixes.add(key[: end + len(delimiter)])
    found_keys: list[str] = []
    found_prefixes: list[str] = []
    after: str | None = ""
    while after is not None:
        page = Listing(prefix, delimiter, after, limit).page(connection, "b")
        assert len(page.objects) + len(page.prefixes) <= limit
        found_keys += [one.key for one in page.objects]
        found_prefixes += page.prefixes
        assert page.after is None or page.after > after
        after = page.after
    assert found_keys == sorted(wanted_keys, key=str.encode)
    assert found_prefixes == sorted(wanted_prefixes, key=str.encode)
