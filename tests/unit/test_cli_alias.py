"""``alcove alias`` against the small server of the other commands' tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.test_cli import CONTROL, Stub, alcove, asked, stub

__all__ = ["stub"]
PATH = f"{CONTROL}/hello/aliases"
LIVE = {
    "Name": "live",
    "FunctionVersion": "1",
    "Description": "d",
    "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1}},
}


def test_create_and_update_send_what_is_given(stub: Stub, tmp_path: Path) -> None:
    stub.answers[f"POST {PATH}"] = (201, {}, LIVE)
    stub.answers[f"PUT {PATH}/live"] = (200, {}, LIVE)
    made = alcove(tmp_path, "alias", "create", "hello", "live", "1", "--weight", "2=0.1")
    assert made.stdout == "hello:live leads to version 1, 10.0% to 2\n"
    sent = json.loads(stub.asked[0][3])
    assert sent["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.1}}
    assert alcove(tmp_path, "alias", "update", "hello", "live", "--version", "2", "--no-weight").exit_code == 0
    assert json.loads(stub.asked[1][3]) == {
        "RoutingConfig": {"AdditionalVersionWeights": {}},
        "FunctionVersion": "2",
    }


@pytest.mark.parametrize("weight", ["2", "=0.1", "2=much"])
def test_a_weight_that_is_none_is_refused(stub: Stub, tmp_path: Path, weight: str) -> None:
    assert alcove(tmp_path, "alias", "create", "hello", "live", "1", "--weight", weight).exit_code != 0
    assert stub.asked == []


def test_list_follows_the_marker(stub: Stub, tmp_path: Path) -> None:
    other = {**LIVE, "Name": "next", "RoutingConfig": {}}
    stub.answers[f"GET {PATH}"] = [
        (200, {}, {"Aliases": [LIVE], "NextMarker": "live"}),
        (200, {}, {"Aliases": [other]}),
    ]
    shown = alcove(tmp_path, "alias", "list", "hello").stdout
    assert "1, 10.0% to 2" in shown
    assert "next" in shown
    assert "Marker=live" in asked(stub)[1]


def test_delete_says_where_there_is_none(stub: Stub, tmp_path: Path) -> None:
    assert alcove(tmp_path, "alias", "delete", "hello", "live").exit_code != 0
    stub.answers[f"GET {PATH}/live"] = (200, {}, LIVE)
    stub.answers[f"DELETE {PATH}/live"] = (204, {}, b"")
    assert alcove(tmp_path, "alias", "delete", "hello", "live").stdout == "deleted hello:live\n"
