"""The partition table, against sfdisk and sgdisk."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alcove.images.partitions import HEAD_SECTORS, SECTOR, gpt

PAGE = 4096


def disk(path: Path, sizes: list[int], size: int) -> Path:
    table = gpt(sizes, size)
    with path.open("wb") as file:
        file.write(table.head)
        os.truncate(path, table.size)
        file.seek(table.size - len(table.tail))
        file.write(table.tail)
    return path


def test_other_tools_find_the_partitions_where_they_are(tmp_path: Path) -> None:
    sizes = [PAGE, 3 * PAGE, 10 * PAGE]
    made = disk(tmp_path / "disk", sizes, 1 << 20)
    listing = subprocess.run(["/sbin/sfdisk", "-J", made], capture_output=True, check=True).stdout
    found = json.loads(listing)["partitiontable"]
    assert found["label"] == "gpt"
    assert [entry["size"] * SECTOR for entry in found["partitions"]] == sizes
    starts = [entry["start"] for entry in found["partitions"]]
    assert starts == [HEAD_SECTORS, HEAD_SECTORS + 8, HEAD_SECTORS + 32]
    verified = subprocess.run(["/sbin/sgdisk", "--verify", made], capture_output=True, text=True, check=True).stdout
    assert "No problems found" in verified


@settings(max_examples=30)
@given(st.lists(st.integers(1, 50), max_size=128))
def test_every_table_verifies(tmp_path_factory: pytest.TempPathFactory, pages: list[int]) -> None:
    made = disk(tmp_path_factory.mktemp("gpt") / "disk", [n * PAGE for n in pages], 64 << 20)
    verified = subprocess.run(["/sbin/sgdisk", "--verify", made], capture_output=True, text=True, check=True).stdout
    assert "No problems found" in verified


@pytest.mark.parametrize("sizes", [[PAGE] * 129, [PAGE + 512], [0], [1 << 20]])
def test_what_does_not_fit_is_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="partition"):
        gpt(sizes, 1 << 20)
