"""Whatever is asked at the pods' socket gets an answer that says what is wrong with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alcove.errors import CapacityError
from alcove.pods.model import Defaults, PodSpec
from alcove.pods.service import PodService
from alcove.pods.socket import PodSocket

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 9)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a", "/", "/proc/self/ns/mnt", "a" * 200, "\ud800", "\0", "../x", 10**30, 1e300, -(10**30)])
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
_SHIMS = st.fixed_dictionaries({}, optional={"pid": _VALUES, "start_time": _VALUES})
_FIELDS: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(
    (
        *("namespace", "netns", "hostname", "cpus", "memory_mib", "disk_mib", "annotations", "other"),
        *("layers", "device", "name", "bytes", "source", "read_only"),
    ),
    _VALUES,
)
_OPS = ("start_pod", "attach_image", "detach_image", "attach_disk", "share_path", "update_pod", "pod_stats")
_REQUESTS = st.fixed_dictionaries(
    {"op": st.just("start_pod") | st.sampled_from(_OPS) | _VALUES, "pod": st.just("a") | _VALUES},
    optional={**_FIELDS, "shim": _SHIMS | _VALUES},
)


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Path]:
    async def start(spec: PodSpec) -> Any:
        # What would be written down can be.
        assert PodSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        raise CapacityError("no machine is started here")

    engine = SimpleNamespace(disk_users=[], tag="00000000")
    service = PodService(cast(Any, engine), tmp_path, Defaults(), waiting=0)
    service._starter.start = start  # type: ignore[method-assign]
    path = tmp_path / "pods.sock"
    served = PodSocket(path, service.carry_out)
    await served.open()
    yield path
    await served.close()
    await service.close()


async def ask(path: Path, request: Any) -> Any:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 22)
    writer.write(json.dumps(request).encode() + b"\n")
    try:
        return json.loads(await reader.read())
    finally:
        writer.close()


@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_REQUESTS)
async def test_garbage_gets_a_clear_error(door: Path, request: Any) -> None:
    error = (await ask(door, request))["error"]
    assert error["code"] in {"invalid", "not_found", "capacity"}, error
    assert error["message"]


async def test_half_a_surrogate_pair_is_no_text(door: Path) -> None:
    error = (await ask(door, {"op": "start_pod", "pod": "a", "other": {"\ud800": "\udfff"}}))["error"]
    assert error["code"] == "invalid"
    assert "one line of JSON" in error["message"]
