"""What the shim's start reads is what ``json`` reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.shim.quick_json import read_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_objects_are_read_as_json_reads_them(value: dict[str, object], indent: int | str | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    assert read_object(f" \n{text}\n") == json.loads(text)


@given(st.text() | st.text(alphabet='{}[]":,0e-\\u n'))
def test_any_text_is_an_object_or_refused(text: str) -> None:
    try:
        assert isinstance(read_object(text), dict)
    except ValueError:
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"a"', '{"a":', '{"a": 1', "{'a': 1}", '{"a": nul}', '{"a":' * 5000])
def test_what_is_cut_short_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_object(text)
