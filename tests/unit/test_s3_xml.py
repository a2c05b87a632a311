"""XML from clients: what could make a parser work or read is refused, the rest is read as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.api import s3_xml
from alcove.buckets.errors import MalformedXML

BOMB = '<!DOCTYPE Delete [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<Delete>",
        b"<Other/>",
        b'<!DOCTYPE Delete SYSTEM "file:///etc/passwd"><Delete/>',
        BOMB.encode(),
        BOMB.encode("utf-16"),
        b'<?xml version="1.0" encoding="no-such"?><Delete/>',
        b"<Delete>\xff</Delete>",
        b"<a>" * 1000,
    ],
)
def test_what_is_malformed_or_dangerous_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedXML):
        s3_xml.parse(data, "Delete")


@given(st.binary(max_size=200))
def test_rubbish_is_refused_not_crashed_on(data: bytes) -> None:
    try:
        s3_xml.parse(data, "Delete")
    except MalformedXML:
        pass


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30))
def test_a_key_comes_back_as_it_was_written(key: str) -> None:
    written = s3_xml.document("Delete", [("Object", [("Key", key)]), ("Quiet", True), ("None", None)]).body
    root = s3_xml.parse(written, "Delete")
    (one,) = s3_xml.children(root, "Object")
    assert s3_xml.text(one, "Key") == key
    assert s3_xml.text(root, "Quiet") == "true"
    assert s3_xml.children(root, "None") == []
