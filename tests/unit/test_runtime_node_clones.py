"""What a Node.js runtime keeps of a rehearsal, a snapshot and its clones: nothing, save what hooks make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_process import RuntimeProcess, node_runtime

from alcove.wire.frame import Kind

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")


@pytest.fixture
def runtime() -> Iterator[RuntimeProcess]:
    with node_runtime() as process:
        yield process


def write(root: Path, source: str, name: str = "app.js") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return root


REHEARSAL = "exports.handler = async (event) => ({ echo: JSON.stringify(event) });\n"


def test_a_rehearsal_leaves_no_trace(runtime: RuntimeProcess, tmp_path: Path) -> None:
    write(tmp_path, REHEARSAL, "rehearsal.js")
    probe = write(
        tmp_path / "probe",
        "exports.handler = async () => [Object.keys(require.cache), "
        "Object.keys(module.constructor._pathCache), process.env.REHEARSED]",
    )
    for _ in range(2):
        runtime.loaded(tmp_path, "rehearsal.handler", rehearsal=True, environment={"REHEARSED": "1"})
        assert runtime.result({"a": 1}) == {"echo": '{"a":1}'}
        runtime.unload()
    assert runtime.failure()["errorType"] == "Runtime.NotLoaded"
    (tmp_path / "rehearsal.js").unlink()
    cache, paths, variable = runtime.loaded(probe).result()
    assert "rehearsal.js" not in str(cache) + str(paths)
    assert variable is None


def test_a_package_of_es_modules_takes_a_rehearsals_place(runtime: RuntimeProcess, tmp_path: Path) -> None:
    """Node remembers for ever whether it found a package.json."""
    write(tmp_path, REHEARSAL, "rehearsal.js")
    runtime.loaded(tmp_path, "rehearsal.handler", rehearsal=True).result()
    runtime.unload()
    write(tmp_path, "export const handler = async () => import.meta.url", "rehearsal.js")
    write(tmp_path, '{"type": "module"}', "package.json")
    assert runtime.loaded(tmp_path, "rehearsal.handler").result().endswith("/rehearsal.js")


DRAWS = """
const crypto = require('crypto')
const draw = () => [Math.random(), crypto.randomInt(2 ** 40), crypto.randomUUID(),
  crypto.webcrypto.randomUUID(), crypto.randomBytes(8).toString('hex')]
"""


def test_two_processes_draw_differently(tmp_path: Path) -> None:
    write(tmp_path, DRAWS + "exports.handler = async () => draw()")
    with node_runtime() as one, node_runtime() as other:
        drawn = [one.loaded(tmp_path).result(), other.loaded(tmp_path).result()]
    assert not set(drawn[0]) & set(drawn[1])


def test_numbers_look_random(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    exports.handler = async () => {
      const drawn = Array.from({ length: 100000 }, Math.random)
      return [Math.min(...drawn), Math.max(...drawn),
        drawn.reduce((a, b) => a + b) / drawn.length, new Set(drawn).size]
    }"""
    low, high, mean, distinct = runtime.loaded(write(tmp_path, source)).result()
    assert 0 <= low < 0.001
    assert 0.999 < high < 1
    assert 0.49 < mean < 0.51
    assert distinct == 100000


def test_hooks_of_the_tenants(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    const seen = []
    const sleep = () => new Promise((resolve) => setTimeout(resolve, 20))
    for (const n of [1, 2]) {
      alcove.onBeforeSnapshot(async () => { await sleep(); seen.push('before' + n) })
      alcove.onAfterRestore(() => { seen.push('after' + n) })
    }
    exports.handler = async () => seen"""
    runtime.loaded(write(tmp_path, source))
    assert runtime.hook("before_snapshot").kind is Kind.DONE
    assert runtime.hook("after_restore").kind is Kind.DONE
    assert runtime.result() == ["before2", "before1", "after1", "after2"]
    runtime.unload()
    assert runtime.hook("before_snapshot").kind is Kind.DONE


def test_hooks_that_fail(runtime: RuntimeProcess, tmp_path: Path) -> None:
    source = """
    alcove.onBeforeSnapshot(() => { throw new Error('hooked') })
    exports.handler = async () => { alcove.onAfterRestore('text') }"""
    runtime.loaded(write(tmp_path, source))
    frame = runtime.hook("before_snapshot")
    assert (frame.kind, json.loads(frame.payload)["errorMessage"]) == (Kind.FAILURE, "hooked")
    assert runtime.failure()["errorType"] == "TypeError"
