"""A thousand clones of one saved machine share no random byte, identifier or clock.

Half are restored from the runtime's template, half from a version's snapshot whose init code has used every generator
already. Without ``personalise`` (guest/clone.py), or without the runtimes' reseeding (guest/runtimes/hooks.py), this
fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.service.conftest import package

from alcove.errors import SandboxGone
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import CodeImage, Invocation, Isolation, Runtime, Start, TenantId, Workload
from alcove.sandbox.vm import VmSandbox
from alcove.sandbox.vm_tier import VmTier

CLONES = int(os.environ.get("ALCOVE_CLONES", "1000"))
# A clone of Node.js takes several times as long, and what it must not share is what few would share already.
NODE_CLONES = max(12, CLONES // 20)
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
        except SandboxGone:
            await sandbox.close()
            if attempt:
                raise
    raise AssertionError


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("runtime", "file", "source", "clones"),
    [
        pytest.param(Runtime.PYTHON, "app.py", PYTHON, CLONES, id="python"),
        pytest.param(Runtime.NODE, "app.js", NODE, NODE_CLONES, id="node"),
    ],
)
async def test_a_thousand_clones_have_nothing_in_common(
    tmp_path: Path, runtime: Runtime, file: str, source: str, clones: int
) -> None:
    assert os.geteuid() == 0, "this test starts real machines: run it as root"
    async with AsyncExitStack() as stack:
        IMAGES.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images").symlink_to(IMAGES.resolve())
        tiers, _ = await open_engine(stack, state=tmp_path, waiting=0, isolations=frozenset({Isolation.VM}))
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        code = CodeStore(tmp_path / "code")
        stack.callback(code.close)
        built = await code.build(package({file: source}), python=runtime is Runtime.PYTHON)
        workload = Workload(
            tenant=TenantId("clones"),
            function_name="clones",
            version="1",
            arn="arn:clones",
            runtime=runtime,
            handler="app.handler",
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
