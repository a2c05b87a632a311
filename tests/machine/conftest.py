"""One engine for all tests of this folder; what a test starts is closed after it, and shown where it failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest
import pytest_asyncio
from tests.machine.lab import ROOT, Guest, Lab, leftovers, open_lab, until
from tests.machine.podlab import PodLab

from alcove.sandbox.protocol import Start

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine() -> AsyncIterator[Lab]:
    async with open_lab(ROOT / "machine") as lab:
        yield lab


@pytest_asyncio.fixture(loop_scope="session")
async def lab(engine: Lab, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    yield engine
    await engine.close(show=request.node.stash.get(_failed, False))
    await until(lambda: not leftovers(engine.state))


# The ladder on which a machine climbs: booted cold, restored from its template, loaded.


@pytest_asyncio.fixture(loop_scope="session")
async def booted(lab: Lab) -> Guest:
    return await lab.start(Start.BOOTED)


@pytest_asyncio.fixture(loop_scope="session")
async def restored(lab: Lab) -> Guest:
    guest = await lab.start(Start.RESTORED)
    await guest.sandbox.resume()
    return guest


@pytest_asyncio.fixture(loop_scope="session")
async def loaded(lab: Lab) -> Guest:
    return await lab.load()


@pytest_asyncio.fixture(loop_scope="session")
async def pods(lab: Lab) -> AsyncIterator[PodLab]:
    pods = PodLab(lab)
    # What a run that was killed has left.
    await pods.service.recover()
    await pods.end_all()
    yield pods
    await pods.close()
    assert pods.leftovers() == []
