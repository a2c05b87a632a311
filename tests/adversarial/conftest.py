"""The engine of this folder's tests; what a test starts is closed after it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.machine.lab import ROOT, Lab, leftovers, open_lab, until


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine() -> AsyncIterator[Lab]:
    async with open_lab(ROOT / "adversarial") as lab:
        yield lab


@pytest_asyncio.fixture(loop_scope="session")
async def lab(engine: Lab) -> AsyncIterator[Lab]:
    yield engine
    await engine.close(show=True)
    await until(lambda: not leftovers(engine.state))
