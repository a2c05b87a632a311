from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.critest import chain as chains


@pytest.fixture(scope="package")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chains.Chain]:
    assert os.geteuid() == 0, "these tests start real machines: run them as root"
    with chains.chain(tmp_path_factory.mktemp("run")) as running:
        yield running
