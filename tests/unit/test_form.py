"""Forms with a file, read as they come: against what a stock client writes, in any pieces; and forms that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from alcove.gateway.form import FIELDS_BYTES, BadForm, Form, FormReader, FormTooLarge

NAMES = st.text("abcXYZ-", min_size=1, max_size=8).filter(lambda name: name.lower() != "file")
# What a boundary begins with is the hard part.
CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b"--", b"\r\n--", b"bound", b"\r\n--boundar", b"x" * 50])).map(
    b"".join
)


def read(body: bytes, *, size: int = 7, boundary: str = "boundary") -> tuple[Form, bytes]:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    async def run() -> tuple[Form, bytes]:
        reader = FormReader(f"multipart/form-data; boundary={boundary}", pieces())
        form = await reader.fields()
        left = len(body) - form.read + reader.held
        content = b"".join([piece async for piece in reader.content()])
        assert len(content) <= left, "what is promised is enough"
        return form, content

    return asyncio.run(run())


@given(
    st.dictionaries(NAMES, st.text(max_size=20), max_size=5),
    st.text("äb c.", min_size=1, max_size=9),
    CONTENT,
    st.integers(1, 300),
)
def test_any_form_in_any_pieces(fields: dict[str, str], name: str, content: bytes, size: int) -> None:
    fields = {name.lower(): value for name, value in fields.items()}
    given_ = [*fields.items(), ("file", (name, content)), ("after", "x" * 2 * FIELDS_BYTES)]
    body, _ = encode_multipart_formdata(given_, boundary="boundary")
    form, found = read(body, size=size)
    assert (form.fields, form.file_name, found) == (fields, name, content)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        b"--other\r\n\r\n",
        b'--boundary\r\nContent-Disposition: form-data; name="key"\r\n\r\nx\r\n--boundary--\r\n',
        b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nsome',
        b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nsome\r\n--bound',
        b'--boundary\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--boundary',
        b'--boundary\r\nContent-Disposition: form-data; name="k"\r\n\r\n\xff\r\n--boundary\r\n',
        b'--boundary\r\nContent-Disposition: form-data; name="k"\r\n\r\n1\r\n' * 2 + b"--boundary",
        b"--boundary\r\nbad header\r\n\r\n",
    ],
)
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(BadForm):
        read(body)


HOSTILE = st.lists(
    st.sampled_from([b"--boundary", b"--", b"\r\n", b"\n", b"\xff", b"Content-Disposition: form-data", b"; name="])
    | st.sampled_from([b'"file"', b'"k"', b"; filename*=utf-8'%ff", b'; filename="', b":", b"x" * 30_000])
    | st.binary(max_size=4)
).map(b"".join)


@given(HOSTILE, st.integers(1, 100))
def test_no_body_breaks_it(body: bytes, size: int) -> None:
    try:
        form, content = read(body, size=size)
    except (BadForm, FormTooLarge):
        return
    assert sum(map(len, form.fields.values())) + len(content) <= len(body)


def test_what_comes_ahead_of_the_fields_is_bounded() -> None:
    with pytest.raises(FormTooLarge):
        read(b"\r\n" * FIELDS_BYTES, size=1000)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "multipart/form-data; boundary=é"])
async def test_a_form_without_a_boundary(content_type: str) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(BadForm):
        FormReader(content_type, nothing())


@pytest.mark.parametrize("size", [100, 1 << 20])
@pytest.mark.parametrize("count", [1, 1000])
def test_fields_are_bounded_together(size: int, count: int) -> None:
    fields = [(f"f{number}", "x" * (FIELDS_BYTES // count)) for number in range(count)]
    body, _ = encode_multipart_formdata([*fields, ("file", ("name", b"content"))], boundary="boundary")
    with pytest.raises(FormTooLarge):
        read(body, size=size)
