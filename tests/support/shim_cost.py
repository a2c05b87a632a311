"""Print what a pod's shim costs: private memory, and the time of ``start`` beside an empty interpreter's.

python -m tests.support.shim_cost
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.shim_bench import Bench, end_shim, shim_bench

ROUNDS = 15


def private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def _empty_ms() -> float:
    begun = time.perf_counter()
    subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", "pass"], check=True)
    return 1000 * (time.perf_counter() - begun)


async def _start_ms(bench: Bench, id: str) -> float:
    bundle = bench.bundle(id)
    begun = time.perf_counter()
    done = bench.run("start", id, bundle)
    took = 1000 * (time.perf_counter() - begun)
    bench.address = done.stdout.decode()
    return took


async def main() -> None:
    empty, starts = [], []
    with tempfile.TemporaryDirectory(prefix="shim-") as folder:
        async with shim_bench(Path(folder)) as bench:
            for round in range(ROUNDS):
                empty.append(_empty_ms())
                starts.append(await _start_ms(bench, f"c{round}"))
                if round < ROUNDS - 1:
                    await end_shim(bench)
            shim = await bench.connect()
            id = f"c{ROUNDS - 1}"
            await bench.create(shim, id)
            await shim.call("Start", id=id)
            memory = private_kib((await shim.call("Connect", id=id))["shim_pid"])
    start, least = statistics.median(starts), statistics.median(empty)
    print(f"start {start:.1f} ms, python -I -S -c pass {least:.1f} ms: {start / least:.1f} x")
    print(f"private memory with one container: {memory / 1024:.1f} MiB")


if __name__ == "__main__":
    asyncio.run(main())
