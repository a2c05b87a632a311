"""Every runtime in a real machine with 128 MB: it serves, and what allocates more than it has ends as such, also where
that is one of several requests inside.
"""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.machine.lab import Lab, until
from tests.runtime_process import compile_java

from alcove.errors import SandboxGone
from alcove.images.families import Family
from alcove.sandbox.protocol import CodeImage, Runtime, Start

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]

PYTHON = """
held = []
def handler(event, context):
    while event["hog"]:
        held.append(bytearray(b"x" * (4 << 20)))
    return {"hello": event["name"]}
"""
NODE = """
const held = [];
exports.handler = async (event) => {
  while (event.hog) held.push(Buffer.alloc(4 << 20, 'x'));
  return {hello: event.name};
};
"""
PHP = """<?php
function handler($event, $context) {
    for ($held = []; $event['hog'];) $held[] = str_repeat('x', 4 << 20);
    return isset($event['parts']) ? parts($event['parts']) : ['hello' => $event['name']];
}
function parts($count) {
    yield '"';
    while ($count--) yield str_repeat('x', 65536);
    yield '"';
}
"""
JAVA = """
import java.io.*;
import java.util.*;
public class App {
    public void handler(InputStream input, OutputStream output) throws IOException {
        String event = new String(input.readAllBytes());
        List<byte[]> held = new ArrayList<>();
        while (event.contains("\\"hog\\": true")) held.add(filled(4 << 20));
        if (!event.contains("parts")) {
            output.write("{\\"hello\\": \\"Ada\\"}".getBytes());
            return;
        }
        output.write('"');
        for (int part = 0; part < 16; part++) output.write(filled(65536));
        output.write('"');
    }
    static byte[] filled(int size) {
        byte[] block = new byte[size];
        Arrays.fill(block, (byte) 'x');
        return block;
    }
}
"""
# tail holds what it may have to print.
PROVIDED = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
    event=$(curl -sS -D /tmp/headers "$api/next")
    id=$(grep -i request-id /tmp/headers | tr -d '\\r' | cut -d' ' -f2)
    case "$event" in *'"hog": true'*) head -c 1000M /dev/zero | tail -c 900M >/dev/null;; esac
    curl -sS -d '{"hello": "Ada"}' "$api/$id/response" >/dev/null
done
"""


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.external_attr = 0o100755 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def java(folder: Path) -> bytes:
    (folder / "App.java").write_text(JAVA)
    compile_java(folder, folder / "App.java")
    return zipped({"App.class": (folder / "App.class").read_bytes()})


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("runtime", "handler", "code"),
    [
        pytest.param(Runtime.PYTHON, "app.handler", lambda folder: zipped({"app.py": PYTHON.encode()}), id="python"),
        pytest.param(Runtime.NODE, "app.handler", lambda folder: zipped({"app.js": NODE.encode()}), id="node"),
        pytest.param(Runtime.PROVIDED, "", lambda folder: zipped({"bootstrap": PROVIDED.encode()}), id="provided"),
        pytest.param(Runtime.PHP, "app.handler", lambda folder: zipped({"app.php": PHP.encode()}), id="php"),
        pytest.param(Runtime.JAVA, "App::handler", java, id="java"),
    ],
)
async def test_128_mb_are_enough_and_no_more_is_had(
    lab: Lab, tmp_path: Path, runtime: Runtime, handler: str, code: Callable[[Path], bytes]
) -> None:
    await lab.tier.prepare(runtime, print)
    built = await lab.code.build(code(tmp_path), python=runtime is Runtime.PYTHON)
    workload = await lab.workload(runtime=runtime, handler=handler, memory_mib=128)
    workload = replace(workload, code=CodeImage(built.digest, built.path))
    guest = lab.guest(await lab.tier.start(runtime, Start.RESTORED))
    await guest.sandbox.load(workload)
    print(runtime, guest.sandbox.phases_ms)
    for _ in range(2):
        assert await guest.call({"hog": False, "name": "Ada"}) == {"hello": "Ada"}
    if runtime.family is not Family.BASE:
        # What streams and what shares goes by the machine's port.
        large = {"hog": False, "name": "Ada", "parts": 16}
        answers = await asyncio.gather(*(guest.call(large, shared=True) for _ in range(3)))
        assert answers == ["x" * (16 * 65536)] * 3
    assert not guest.exits
    with pytest.raises(SandboxGone):
        await guest.call({"hog": True, "name": "Ada"}, timeout_s=120, shared=True)
    await until(lambda: guest.exits == ["out_of_memory"])
