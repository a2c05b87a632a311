"""critest with runc as the oracle: what passes there passes with our handler."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.critest.chain import FOLDER, Chain
from tests.critest.verdicts import Verdict, compare, read_exceptions, read_report

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

SUITE = Path(__file__).with_name("suite")
# Fewer that pass with runc are a broken oracle.
ORACLE_PASSES = 85


@pytest.fixture(scope="session")
def critest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite, compiled."""
    program = tmp_path_factory.mktemp("critest") / "critest"
    environment = {**os.environ, "GOFLAGS": "-mod=readonly"}
    command = ["go", "test", "-c", "-o", str(program), "sigs.k8s.io/cri-tools/cmd/critest"]
    subprocess.run(command, cwd=SUITE, env=environment, check=True)
    return program


def verdicts(critest: Path, chain: Chain, handler: str) -> dict[str, Verdict]:
    report = FOLDER.resolve() / f"{handler}.json"
    command = [critest, f"-runtime-endpoint=unix://{chain.containerd.socket}", f"-runtime-handler={handler}"]
    command += ["-ginkgo.no-color", "-ginkgo.seed=1", f"-ginkgo.json-report={report}"]
    with (FOLDER / f"{handler}.log").open("wb") as log:
        subprocess.run(command, stdout=log, stderr=log, timeout=600)
    return read_report(report)


def test_what_passes_with_runc_passes_in_machines(critest: Path, chain: Chain) -> None:
    exceptions = read_exceptions()
    oracle, ours = (verdicts(critest, chain, handler) for handler in ("runc", "alcove"))
    assert sum(verdict.state == "passed" for verdict in oracle.values()) >= ORACLE_PASSES, oracle
    wrong = compare(oracle, ours, exceptions)
    assert not wrong, "\n".join(wrong)
