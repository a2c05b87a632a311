"""Timers over the real server: made, run, changed, removed; refused where they make no sense."""

from __future__ import annotations

import time

import pytest
from tests.parity.conftest import Platform

from alcove.cli.client import Client
from alcove.errors import InvalidRequest, NotFound

TIMERS = "/alcove/v1/timers"


def test_a_timer_calls_its_function(platform: Platform, function: str) -> None:
    client = Client(platform.socket.parent)
    made = client.call("PUT", f"{TIMERS}/soon", {"function": function, "schedule": "rate(1 minute)", "input": {"n": 1}})
    assert made["function"] == function
    assert [one["name"] for one in client.call("GET", TIMERS)["timers"]] == ["soon"]
    changed = client.call("PUT", f"{TIMERS}/soon", {"function": function, "schedule": "cron(* * * * ? *)"})
    assert changed["schedule"] == "cron(* * * * ? *)"
    deadline = time.monotonic() + 90
    while not client.call("GET", f"/alcove/v1/functions/{function}/logs?after=0&tail=10")["lines"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    client.request("DELETE", f"{TIMERS}/soon")
    assert client.call("GET", TIMERS)["timers"] == []


@pytest.mark.parametrize(
    "document",
    [
        {"schedule": "rate(1 minute)"},
        {"function": "FUNCTION", "schedule": "rate(0 minutes)"},
        {"function": "FUNCTION", "schedule": "cron(61 * * * ? *)"},
        {"function": "FUNCTION", "schedule": "rate(1 minute)", "zone": "Mars/Olympus"},
    ],
)
def test_what_makes_no_sense_is_refused(platform: Platform, function: str, document: dict[str, str]) -> None:
    document = {key: value.replace("FUNCTION", function) for key, value in document.items()}
    with pytest.raises(InvalidRequest):
        Client(platform.socket.parent).call("PUT", f"{TIMERS}/bad", document)


def test_an_unknown_function_or_timer_is_not_found(platform: Platform) -> None:
    client = Client(platform.socket.parent)
    with pytest.raises(NotFound):
        client.call("PUT", f"{TIMERS}/bad", {"function": "nobody", "schedule": "rate(1 minute)"})
    with pytest.raises(NotFound):
        client.request("DELETE", f"{TIMERS}/nothing")
