"""Java and PHP in containers: what their images, commands and channels need there. In machines they have tests of
their own (``tests/machine/test_runtimes.py``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace as with_fields
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace
from tests.runtime_process import compile_java

from alcove.errors import SandboxGone
from alcove.images.code import CodeStore
from alcove.sandbox.protocol import CodeImage, Isolation, Runtime, Sandbox

from .conftest import Bench, invocation, package, until

pytestmark = [
    pytest.mark.machine,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("bench", [Isolation.GVISOR, Isolation.PROCESS], ids=str, indirect=True),
    pytest.mark.parametrize("runtime", [Runtime.JAVA, Runtime.PHP], ids=str),
]
# Each does what it is asked; "meet" ends where all are inside at once.
PHP = """<?php
function handler($event, $context) {
    $do = $event['do'] ?? '';
    if ($do === 'meet') {
        touch("/tmp/met-{$context->requestId}");
        while (count(glob('/tmp/met-*')) < $event['parties']) usleep(1000);
        return 'met';
    }
    if ($do === 'stream') return (function () { yield 'one'; yield 'two'; })();
    if ($do === 'raise') throw new RangeException('as asked');
    if ($do === 'exit') exit(3);
    echo "printed by the handler\\n";
    return ['echo' => $event, 'user' => posix_getuid(), 'root' => getcwd()];
}
"""
JAVA = """
import java.io.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.atomic.AtomicInteger;

public class App {
    static final AtomicInteger MET = new AtomicInteger();

    public void handler(InputStream input, OutputStream output) throws Exception {
        String event = new String(input.readAllBytes());
        if (event.contains("meet")) {
            for (MET.incrementAndGet(); MET.get() < 3;) Thread.sleep(1);
            output.write('"');
            output.write("met\\"".getBytes());
        } else if (event.contains("stream")) {
            output.write("one".getBytes());
            output.write("two".getBytes());
        } else if (event.contains("raise")) throw new IllegalStateException("as asked");
        else if (event.contains("exit")) System.exit(3);
        else {
            System.out.println("printed by the handler");
            Object user = Files.getAttribute(Path.of("/proc/self"), "unix:uid");
            String root = System.getenv("LAMBDA_TASK_ROOT");
            String answer = "{\\"echo\\": %s, \\"user\\": %s, \\"root\\": \\"%s\\"}";
            output.write(answer.formatted(event, user, root).getBytes());
        }
    }
}
"""
HANDLERS = {Runtime.JAVA: "App::handler", Runtime.PHP: "app.handler"}


def code_of(runtime: Runtime, folder: Path) -> bytes:
    if runtime is Runtime.PHP:
        return package({"app.php": PHP})
    (folder / "App.java").write_text(JAVA)
    compile_java(folder, folder / "App.java")
    (folder / "App.java").unlink()
    return package({path.name: path.read_bytes() for path in folder.glob("*.class")})


@pytest_asyncio.fixture(loop_scope="session")
async def sandbox(bench: Bench, runtime: Runtime, tmp_path: Path) -> AsyncIterator[Sandbox]:
    await bench.tier.prepare(runtime, print)
    store = CodeStore(tmp_path / "code")
    built = await store.build(code_of(runtime, tmp_path), python=False)
    sandbox = await bench.start(runtime)
    try:
        await sandbox.rehearse()
        code = CodeImage(built.digest, built.path)
        await sandbox.load(with_fields(bench.workload(HANDLERS[runtime], code=code), runtime=runtime))
        print(sandbox.phases_ms)
        yield sandbox
    finally:
        await sandbox.close()
        store.close()
    await until(lambda: not bench.leftovers(sandbox.id))


@pytest.mark.timeout(600)
async def test_it_serves_streams_and_shares(bench: Bench, runtime: Runtime, sandbox: Sandbox) -> None:
    outcome = await sandbox.invoke(invocation(b'{"n": 1}'))
    assert (outcome.error, json.loads(outcome.payload)) == (
        None,
        {"echo": {"n": 1}, "user": 1000, "root": "/var/task"},
    )
    await until(lambda: b"\0alcove:end:request-1\0" in bench.logs[2])
    assert b"printed by the handler" in bench.logs[1]
    streamed = await sandbox.invoke(invocation(b'{"do": "stream"}', "request-2"))
    assert (streamed.content_type, streamed.payload) == ("application/octet-stream", b"onetwo")
    failed = await sandbox.invoke(invocation(b'{"do": "raise"}', "request-3"))
    assert failed.error is not None
    assert json.loads(failed.error)["errorMessage"] == "as asked"
    shared = [replace(invocation(b'{"do": "meet", "parties": 3}', f"request-s{n}"), shared=True) for n in range(3)]
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*(sandbox.invoke(one) for one in shared))
    assert [json.loads(one.payload) for one in outcomes] == ["met", "met", "met"]
    ended = await sandbox.invoke(invocation(b'{"do": "exit"}', "request-4"))
    assert ended.error is not None
    assert json.loads(ended.error)["errorType"] == "Runtime.ExitError"
    await until(lambda: bench.exits == ["exited"])
    with pytest.raises(SandboxGone):
        await sandbox.invoke(invocation(b"{}", "request-5"))
