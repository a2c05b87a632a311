"""S3's checksums, against published values and against themselves."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.buckets import checksums
from alcove.buckets.checksums import Kind, Plan
from alcove.buckets.errors import BadRequest

# Of "123456789". CRCs: the catalogue of parametrised CRC algorithms; digests: RFC 3174, FIPS 180-4's algorithms.
CHECK = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "xxhash64": "8cb841db40e6ae83",
}


def value(name: str, data: bytes) -> str:
    running = checksums.start(name)
    for start in range(0, len(data), 5):
        running.update(data[start : start + 5])
    assert running.digest() == running.digest()
    return checksums.encode(running.digest())


@pytest.mark.parametrize("name", sorted(CHECK))
def test_published_values(name: str) -> None:
    assert base64.b64decode(value(name, b"123456789")).hex() == CHECK[name]


@pytest.mark.parametrize("name", checksums.ALGORITHMS)
def test_values_have_their_size(name: str) -> None:
    good = value(name, b"x")
    assert checksums.encode(checksums.decode(name, good)) == good
    for bad in ("", "AAA", "A" * 200, "not base64!", good[:-4]):
        with pytest.raises(BadRequest):
            checksums.decode(name, bad)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.sampled_from(["crc32", "crc32c", "crc64nvme"]))
def test_crcs_of_parts_add_up_to_that_of_the_whole(parts: list[bytes], name: str) -> None:
    plan = Plan(name, Kind.FULL_OBJECT)
    assert checksums.together(plan, [(value(name, one), len(one)) for one in parts]) == value(name, b"".join(parts))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.sampled_from(["crc32", "sha256", "xxhash3"]))
def test_a_composite_is_of_the_parts_digests(parts: list[bytes], name: str) -> None:
    digests = b"".join(base64.b64decode(value(name, one)) for one in parts)
    found = checksums.together(Plan(name, Kind.COMPOSITE), [(value(name, one), len(one)) for one in parts])
    assert found == f"{value(name, digests)}-{len(parts)}"


def test_parts_without_checksums_make_an_object_without() -> None:
    assert checksums.together(Plan(), [(value("crc64nvme", b"x"), 1), ("", 1)]) == ""


def test_kinds_of_uploads() -> None:
    assert checksums.plan("", "") == Plan("crc64nvme", Kind.FULL_OBJECT)
    assert checksums.plan("CRC64NVME", "") == Plan("crc64nvme", Kind.FULL_OBJECT, explicit=True)
    assert checksums.plan("CRC32C", "") == Plan("crc32c", Kind.COMPOSITE, explicit=True)
    assert checksums.plan("CRC32", "full_object") == Plan("crc32", Kind.FULL_OBJECT, explicit=True)
    assert checksums.plan("SHA256", "COMPOSITE").kind == Kind.COMPOSITE
    for algorithm, kind in (("CRC64NVME", "COMPOSITE"), ("SHA1", "FULL_OBJECT"), ("", "COMPOSITE"), ("CRC8", "")):
        with pytest.raises(BadRequest):
            checksums.plan(algorithm, kind)
