"""The platform's own lines, in both formats."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from alcove.functions.platform_log import Lines, Spent, around
from alcove.sandbox.protocol import Logging


@dataclass
class Function:
    logging: Logging
    version: str = "7"
    memory_mib: int = 256


def lines(logging: Logging, peak_mib: int | None = 41) -> tuple[Lines, Lines]:
    return around(cast(Any, Function(logging)), "r-1", Spent(12.3456), peak_mib)


def test_text() -> None:
    before, after = lines(Logging())
    assert before == ("START RequestId: r-1 Version: 7",)
    assert after == (
        "END RequestId: r-1",
        "REPORT RequestId: r-1\tDuration: 12.35 ms\tBilled Duration: 13 ms\tMemory Size: 256 MB\t"
        "Max Memory Used: 41 MB",
    )


def test_no_more_memory_is_shown_than_there_was_and_none_where_it_is_not_known() -> None:
    assert lines(Logging(), 300)[1][1].endswith("\tMax Memory Used: 256 MB")
    assert "Max Memory" not in lines(Logging(), None)[1][1]
    assert "maxMemoryUsedMB" not in lines(Logging("JSON", "INFO", "INFO"), None)[1][0]


def test_json() -> None:
    start, report = (json.loads(line) for (line,) in lines(Logging("JSON", "INFO", "INFO")))
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time")) for event in (start, report))
    assert start == {"type": "platform.start", "record": {"requestId": "r-1", "version": "7"}}
    metrics = {"durationMs": 12.346, "billedDurationMs": 13, "memorySizeMB": 256, "maxMemoryUsedMB": 41}
    assert report == {"type": "platform.report", "record": {"requestId": "r-1", "metrics": metrics}}


def test_levels() -> None:
    assert lines(Logging("JSON", "INFO", "WARN")) == ((), ())
