"""What fio is asked for, and how what it says is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alcove.bench import fio
from alcove.bench.disk import Found
from alcove.bench.disk_print import document
from alcove.errors import HostError


def report(name: str, iops: float, size: float, **more: Any) -> dict[str, Any]:
    silent = {"iops": 0, "bw_bytes": 0}
    return {"jobname": name, "error": 0, "read": {"iops": iops, "bw_bytes": size}, "write": silent, **more}


def test_every_job_goes_to_every_place_in_turn() -> None:
    words = fio.command({"block": "/a", "share": "/b"}, fio.JOBS[:2], 2.0)
    names = [word for word in words if word.startswith("--name=")]
    assert names == [f"--name={place}: {job.name}" for job in fio.JOBS[:2] for place in ("block", "share")]
    assert words.count("--stonewall") == 4
    assert "--filename=/a/fio" in words


def test_rates_are_read_behind_warnings() -> None:
    text = "fio: a warning\n" + json.dumps({"jobs": [report("block: x", 10.5, 2e6)]})
    assert fio.rates(text) == {"block: x": fio.Rate(10.5, 2.0)}


@pytest.mark.parametrize(
    "text", ["", "no such file", "{", "{}", json.dumps({"jobs": [report("a", 0, 0)]}),
             json.dumps({"jobs": [report("a", 1, 1, error=5)]})],
)  # fmt: skip
def test_a_job_that_failed_is_an_error(text: str) -> None:
    with pytest.raises(HostError):
        fio.rates(text)


def test_medians_and_ratios() -> None:
    found = Found()
    for job in fio.JOBS:
        for place, rate in (("block", 60.0), ("virtio-fs", 20.0)):
            found.places[place, job.name] += [fio.Rate(rate, rate), fio.Rate(rate, rate), fio.Rate(1, 1)]
    ratios = found.ratios()
    assert [ratio.reached for ratio in ratios] == [1.0 if job.random else 0.5 for job in fio.JOBS]
    assert all(ratio.holds for ratio in ratios)
    written = document(found, {"kernel": "x"})
    assert written["places"]["block: sequential reads"] == 60.0
    assert written["ratios"][0]["holds"] is True
    assert written["facts"] == {"kernel": "x"}
