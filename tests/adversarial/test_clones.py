"""A thousand clones of one saved machine share no random byte, identifier or clock.

Half are restored from the runtime's template, half from a version's snapshot whose init code has used every generator
already. Without ``personalise`` (guest/clone.py), or without the runtimes' reseeding (guest/runtimes/hooks.py), this
fails.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
import zipfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_process import compile_java
from tests.service.conftest import package

from alcove.errors import SandboxLost
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import CodeImage, Invocation, Isolation, Runtime, Start, TenantId, Workload
from alcove.sandbox.vm import VmSandbox
from alcove.sandbox.vm_tier import VmTier

CLONES = int(os.environ.get("ALCOVE_CLONES", "1000"))
# A clone of Node.js takes several times as long, and what it must not share is what few would share already.
NODE_CLONES = max(12, CLONES // 20)
FEW_CLONES = max(8, CLONES // 80)
IMAGES = Path("build/test-state/images")
AT_ONCE = 3
PYTHON = """
import os, random, socket, ssl, time, uuid

def read(path):
    with open(path) as file:
        return file.read().strip()

# All generators are in use before a snapshot is taken; the kernel makes its boot id when it is first read.
EARLY = [os.urandom(8), random.random(), ssl.RAND_bytes(8), uuid.uuid4(), read("/proc/sys/kernel/random/boot_id")]

def handler(event, context):
    return {
        "unique": {
            "urandom": os.urandom(16).hex(),
            "random": random.getrandbits(128),
            "openssl": ssl.RAND_bytes(16).hex(),
            "uuid": str(uuid.uuid4()),
            "kernel_uuid": read("/proc/sys/kernel/random/uuid"),
            "boot_id": read("/proc/sys/kernel/random/boot_id"),
            "machine_id": read("/etc/machine-id"),
            "hostname": socket.gethostname(),
            "mac": read("/sys/class/net/eth0/address"),
        },
        "clock": time.time(),
    }
"""

NODE = """
const crypto = require('crypto'), fs = require('fs'), os = require('os');
const read = (path) => fs.readFileSync(path, 'utf8').trim();
const draw = () => ({
  random: [Math.random(), Math.random()].join(),
  openssl: crypto.randomBytes(16).toString('hex'),
  integer: crypto.randomInt(2 ** 48 - 1),
  uuid: crypto.randomUUID(),
  web: Buffer.from(crypto.webcrypto.getRandomValues(new Uint8Array(16))).toString('hex'),
  key: crypto.generateKeyPairSync('ec', {namedCurve: 'P-256'}).publicKey.export({format: 'jwk'}).x,
});

// All generators are in use before a snapshot is taken.
const early = draw();

exports.handler = async () => ({
  unique: {
    ...draw(),
    kernel_uuid: read('/proc/sys/kernel/random/uuid'),
    boot_id: read('/proc/sys/kernel/random/boot_id'),
    machine_id: read('/etc/machine-id'),
    hostname: os.hostname(),
    mac: read('/sys/class/net/eth0/address'),
  },
  clock: Date.now() / 1000,
});
"""

PHP = """<?php
$read = fn (string $path) => trim(file_get_contents($path));
$draw = fn () => [
    'bytes' => bin2hex(random_bytes(16)),
    'integer' => random_int(0, PHP_INT_MAX),
    'mt_rand' => mt_rand() . ',' . mt_rand(),
    'shuffled' => str_shuffle(str_repeat('abcdefghijklmnopqrstuvwxyz', 4)),
    'openssl' => bin2hex(openssl_random_pseudo_bytes(16)),
    'key' => bin2hex(openssl_pkey_get_details(openssl_pkey_new(
        ['private_key_type' => OPENSSL_KEYTYPE_EC, 'curve_name' => 'prime256v1']))['ec']['x']),
    'engine' => (new Random\\Randomizer())->getInt(0, PHP_INT_MAX),
];

// All generators are in use before a snapshot is taken.
$early = $draw();

function handler($event, $context) {
    global $draw, $read;
    return ['unique' => [
        ...$draw(),
        'boot_id' => $read('/proc/sys/kernel/random/boot_id'),
        'machine_id' => $read('/etc/machine-id'),
        'hostname' => gethostname(),
    ], 'clock' => microtime(true)];
}
"""

JAVA = """
package app;

import java.nio.file.*;
import java.security.SecureRandom;
import java.util.*;
import java.util.concurrent.ThreadLocalRandom;

public class App {
    static final SecureRandom SECURE = new SecureRandom();

    static Map<String, Object> draw() {
        Map<String, Object> found = new HashMap<>();
        List<Integer> cards = new ArrayList<>();
        for (int card = 0; card < 52; card++) cards.add(card);
        Collections.shuffle(cards);
        found.put("shuffled", cards.toString());
        found.put("secure", SECURE.nextLong() + "," + SECURE.nextLong());
        found.put("random", new Random().nextLong());
        found.put("math", Math.random());
        found.put("thread", ThreadLocalRandom.current().nextLong() + "," + ThreadLocalRandom.current().nextLong());
        found.put("splittable", new SplittableRandom().nextLong());
        try {
            found.put("strong", SecureRandom.getInstanceStrong().nextLong());
        } catch (java.security.NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
        found.put("uuid", UUID.randomUUID().toString());
        return found;
    }

    // All generators are in use before a snapshot is taken.
    static final Map<String, Object> EARLY = draw();

    static void beforeSnapshot() {
        SECURE.nextLong(); // with the clock ahead
    }

    public Map<String, Object> handler(Map<String, Object> event) throws Exception {
        Map<String, Object> unique = draw();
        unique.put("boot_id", Files.readString(Path.of("/proc/sys/kernel/random/boot_id")).trim());
        unique.put("machine_id", Files.readString(Path.of("/etc/machine-id")).trim());
        return Map.of("unique", unique, "clock", System.currentTimeMillis() / 1000.0);
    }
}
"""


def java_package(folder: Path) -> bytes:
    (folder / "App.java").write_text(JAVA)
    compile_java(folder / "classes", folder / "App.java")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(folder / "classes/app/App.class", "app/App.class")
    return buffer.getvalue()


async def ask(sandbox: VmSandbox) -> dict[str, Any]:
    outcome = await sandbox.invoke(Invocation("r", b"{}", int(time.time() * 1000) + 60_000))
    assert outcome.error is None, outcome.error
    return dict(json.loads(outcome.payload))


async def restored(tier: VmTier, workload: Workload) -> VmSandbox:
    """Restore the template and load the code; like the dispatcher, make up for a machine that is lost meanwhile."""
    for attempt in range(2):
        sandbox = await tier.start(workload.runtime, Start.RESTORED)
        try:
            await sandbox.load(workload)
            return sandbox
        except SandboxLost:
            await sandbox.close()
            if attempt:
                raise
    raise AssertionError


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("runtime", "code", "handler", "clones"),
    [
        pytest.param(Runtime.PYTHON, lambda folder: package({"app.py": PYTHON}), "app.handler", CLONES, id="python"),
        pytest.param(Runtime.NODE, lambda folder: package({"app.js": NODE}), "app.handler", NODE_CLONES, id="node"),
        pytest.param(Runtime.PHP, lambda folder: package({"app.php": PHP}), "app.handler", FEW_CLONES, id="php"),
        pytest.param(Runtime.JAVA, java_package, "app.App::handler", FEW_CLONES, id="java"),
    ],
)
async def test_a_thousand_clones_have_nothing_in_common(
    tmp_path: Path, runtime: Runtime, code: Callable[[Path], bytes], handler: str, clones: int
) -> None:
    assert os.geteuid() == 0, "this test starts real machines: run it as root"
    async with AsyncExitStack() as stack:
        IMAGES.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images").symlink_to(IMAGES.resolve())
        tiers, _ = await open_engine(stack, state=tmp_path, waiting=0, isolations=frozenset({Isolation.VM}))
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        store = CodeStore(tmp_path / "code")
        stack.callback(store.close)
        built = await store.build(code(tmp_path), python=runtime is Runtime.PYTHON)
        workload = Workload(
            tenant=TenantId("clones"),
            function_name="clones",
            version="1",
            arn="arn:clones",
            runtime=runtime,
            handler=handler,
            code=CodeImage(built.digest, built.path),
            memory_mib=1769,
        )
        await tier.snapshot(workload)
        gate = asyncio.Semaphore(AT_ONCE)

        async def clone(number: int) -> dict[str, Any]:
            async with gate:
                sandbox = await (tier.start_snapshot(workload) if number % 2 else restored(tier, workload))
                try:
                    answer = await ask(sandbox)
                    assert abs(answer["clock"] - time.time()) < 5
                    return answer
                finally:
                    await sandbox.close()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(clone(number)) for number in range(clones)]
        answers = [task.result() for task in tasks]
    for name in answers[0]["unique"]:
        values = [answer["unique"][name] for answer in answers]
        assert len(set(values)) == clones, f"{name} repeats: {clones - len(set(values))} of {clones}"
