"""What critest said of a handler, and what it may say of ours where runc is the measure."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

EXCEPTIONS = Path(__file__).with_name("exceptions.toml")
MOST_EXCEPTIONS = 10


@dataclass(frozen=True)
class Verdict:
    """``passed``, ``failed``, ``skipped`` and ginkgo's other words, with those of a failure."""

    state: str
    words: str = ""


def read_report(path: Path) -> dict[str, Verdict]:
    """Return the verdict of each spec of ginkgo's JSON report, by its whole text."""
    verdicts = {}
    for suite in json.loads(path.read_text()):
        for spec in suite["SpecReports"]:
            if spec["LeafNodeType"] == "It":
                name = " ".join([*(spec.get("ContainerHierarchyTexts") or []), spec["LeafNodeText"]])
                verdicts[name] = Verdict(spec["State"], (spec.get("Failure") or {}).get("Message", ""))
    return verdicts


def read_exceptions(path: Path = EXCEPTIONS) -> dict[str, str]:
    """Return the reason of each spec that need not pass."""
    listed = tomllib.loads(path.read_text()).get("exception", [])
    exceptions = {one["spec"]: one["reason"] for one in listed}
    assert len(exceptions) == len(listed) <= MOST_EXCEPTIONS, "an exception is listed twice, or there are too many"
    assert all(exceptions.values()), "an exception has a reason"
    return exceptions


def compare(oracle: dict[str, Verdict], ours: dict[str, Verdict], exceptions: dict[str, str]) -> list[str]:
    """Return what is wrong: what the oracle passes and we don't, unless it is excepted; exceptions without a need."""
    passed = {name for name, verdict in oracle.items() if verdict.state == "passed"}
    missing = Verdict("missing")
    failed = {name for name in passed if ours.get(name, missing).state != "passed"}
    wrong = [
        f"fails: {name}: {ours.get(name, missing).state}: {ours.get(name, missing).words[:1000]}"
        for name in sorted(failed - exceptions.keys())
    ]
    wrong += [f"no exception is needed: {name}" for name in sorted(exceptions.keys() - failed)]
    return wrong
