"""``alcove permission`` against the small server of the other commands' tests."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.test_cli import CONTROL, Stub, alcove, asked, stub

__all__ = ["stub"]
PATH = f"{CONTROL}/hello/policy"
STATEMENT = {"Sid": "s", "Principal": {"AWS": "arn:x"}, "Action": "lambda:InvokeFunction", "Resource": "arn:hello"}


def test_add_list_remove(stub: Stub, tmp_path: Path) -> None:
    stub.answers[f"POST {PATH}"] = (201, {}, {"Statement": json.dumps(STATEMENT)})
    stub.answers[f"GET {PATH}"] = (200, {}, {"Policy": json.dumps({"Statement": [STATEMENT]})})
    stub.answers[f"DELETE {PATH}/s"] = (204, {}, b"")
    made = alcove(tmp_path, "permission", "add", "hello", "s", "123456789012", "--source-arn", "arn:b")
    assert made.stdout == "123456789012 may lambda:InvokeFunction on arn:hello\n"
    assert json.loads(stub.asked[0][3])["SourceArn"] == "arn:b"
    assert "arn:x" in alcove(tmp_path, "permission", "list", "hello").stdout
    assert alcove(tmp_path, "permission", "remove", "hello", "s", "--qualifier", "live").exit_code == 0
    assert asked(stub)[-1] == f"DELETE {PATH}/s?Qualifier=live"


def test_list_tells_no_policy_from_no_function(stub: Stub, tmp_path: Path) -> None:
    assert alcove(tmp_path, "permission", "list", "hello").exit_code != 0
    stub.answers[f"GET {CONTROL}/hello/configuration"] = (200, {}, {})
    assert alcove(tmp_path, "permission", "list", "hello", "--json").stdout == "[]\n"
