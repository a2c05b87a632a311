"""Trace contexts, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.wire.trace import TraceContext, continue_trace, read_trace, read_traceparent, read_xray

W3C = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
XRAY = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"


def test_both_headers_say_the_same() -> None:
    expected = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)
    assert read_traceparent(W3C) == read_xray(XRAY) == read_trace(W3C) == read_trace(XRAY) == expected
    assert (expected.traceparent, expected.xray) == (W3C, XRAY)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        W3C.upper(),
        W3C + "-more",
        W3C.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "Root=1-0af76519;Sampled=1",
        "Root=2-0af76519-16cd43dd8448eb211c80319c",
        "Parent=b7ad6b7169203331;Sampled=1",
        "=" * 100_000,
        "Root=1-00000000-" + "0" * 24,
    ],
)
def test_what_is_not_valid_is_not_taken(header: str) -> None:
    assert read_trace(header) is None
    fresh = continue_trace(header, sample=True)
    assert fresh.parent_id == ""
    assert read_traceparent(fresh.traceparent) == TraceContext(fresh.trace_id, fresh.span_id, sampled=True)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert read_traceparent(W3C.replace("00-", "01-", 1) + "-more") == read_traceparent(W3C)


@pytest.mark.parametrize(
    ("header", "sample", "sampled"),
    [
        (W3C, False, True),
        (W3C[:-1] + "0", True, False),
        ("Root=1-0af76519-16cd43dd8448eb211c80319c", True, True),
        ("Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=nonsense;Sampled=?", False, False),
    ],
)
def test_a_trace_goes_on_as_its_caller_decided(header: str, sample: bool, sampled: bool) -> None:
    context = continue_trace(header, sample=sample)
    assert context.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert context.sampled is sampled
    assert context.span_id != context.parent_id
    assert context.parent_id == ("b7ad6b7169203331" if "b7ad" in header else "")


@given(st.text())
def test_any_header_gives_a_context(header: str) -> None:
    context = continue_trace(header, sample=False)
    assert read_xray(context.xray) == TraceContext(context.trace_id, context.span_id, sampled=bool(context.sampled))
