"""``alcove fn get`` against the small server of the other commands' tests."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.unit.test_cli import CONTROL, Stub, alcove, asked, stub

__all__ = ["stub"]
FOUND = {
    "Configuration": {
        "FunctionName": "hello",
        "CodeSize": 4,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "MemorySize": 256,
        "Timeout": 9,
        "Environment": {"Variables": {"A": "it's"}},
        "Layers": [{"Arn": "arn:l:1"}],
    },
    "Code": {"Location": "http://127.0.0.1:1/alcove/v1/code/abc?expires=1&token=2"},
}


def test_fetches_the_package_and_says_how_to_deploy_it(stub: Stub, tmp_path: Path) -> None:
    stub.answers[f"GET {CONTROL}/hello"] = (200, {}, FOUND)
    stub.answers["GET /alcove/v1/code/abc"] = (200, {}, b"data")
    target = tmp_path / "it is.zip"
    done = alcove(tmp_path, "fn", "get", "hello", "--qualifier", "live", "--download", str(target))
    assert target.read_bytes() == b"data"
    assert asked(stub) == [f"GET {CONTROL}/hello?Qualifier=live", "GET /alcove/v1/code/abc?expires=1&token=2"]
    words = shlex.split(done.stdout)
    assert words[:6] == ["alcove", "fn", "deploy", str(target), "--name", "hello"]
    assert words[-4:] == ["--env", "A=it's", "--layer", "arn:l:1"]


def test_a_file_that_is_there_is_not_replaced_unasked(stub: Stub, tmp_path: Path) -> None:
    stub.answers[f"GET {CONTROL}/hello"] = (200, {}, FOUND)
    stub.answers["GET /alcove/v1/code/abc"] = (200, {}, b"data")
    target = tmp_path / "hello.zip"
    target.write_bytes(b"mine")
    assert alcove(tmp_path, "fn", "get", "hello", "--download", str(target)).exit_code != 0
    assert target.read_bytes() == b"mine"
    assert alcove(tmp_path, "fn", "get", "hello", "--download", str(target), "--force").exit_code == 0
    assert target.read_bytes() == b"data"
