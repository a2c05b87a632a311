"""A form with a file (``multipart/form-data``, RFC 7578), read as it comes: its fields first, then the file's content.

Nothing is held but the fields, which are bounded together. What comes behind the file is not looked at.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from alcove.errors import InvalidRequest, TooLarge

# All that comes before the file's content: S3's bound ("POST Object" in the Amazon S3 API reference).
FIELDS_BYTES = 20 << 10
FILE = "file"
_TYPE = "multipart/form-data"
_BOUNDARY = re.compile(rb"[\x21-\x7e ]{0,69}[\x21-\x7e]")


class FormTooLarge(TooLarge):
    """The fields ahead of the file."""


class BadForm(InvalidRequest):
    """It is no form, or has no file, or ends too early."""


@dataclass(slots=True)
class Form:
    """``fields`` by their names in small letters; ``read`` counts the bytes of the body so far."""

    fields: dict[str, str] = field(default_factory=dict)
    file_name: str = ""
    read: int = 0


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == _TYPE


class FormReader:
    """``fields`` once, then ``content`` once. Both raise ``BadForm``, ``FormTooLarge``."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not is_form(content_type) or not _BOUNDARY.fullmatch(boundary):
            raise BadForm("The body of your POST request is not well-formed multipart/form-data.")
        self.form = Form()
        self._body = body
        self._parser = MultipartParser(boundary, self._callbacks())
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._value = bytearray()
        self._content: deque[bytes] = deque()
        self._in_file = self._ended = False
        self._size = 0  # of what is ahead of the file

    @property
    def held(self) -> int:
        """Bytes of the file that were read and not handed on, at most."""
        return sum(map(len, self._content)) + len(self._parser.boundary) + 4

    async def fields(self) -> Form:
        """Read up to the file's content."""
        while not self._in_file:
            self._check_size(self.form.read)
            await self._feed()
        return self.form

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the file's content."""
        while True:
            while self._content:
                yield self._content.popleft()
            if self._ended:
                return
            await self._feed()

    async def _feed(self) -> None:
        try:
            data = await anext(self._body)
        except StopAsyncIteration:
            raise BadForm("The form has no file, or ends before its file does.") from None
        self.form.read += len(data)
        try:
            self._parser.write(data)
        except (FormParserError, UnicodeDecodeError) as error:
            raise BadForm("The body of your POST request is not well-formed multipart/form-data.") from error

    # Called by the parser

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._on_part,
            "on_header_field": lambda *piece: self._keep(self._header[0], *piece),
            "on_header_value": lambda *piece: self._keep(self._header[1], *piece),
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
        }

    def _on_part(self) -> None:
        self._headers, self._value = {}, bytearray()

    def _on_header(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _on_headers(self) -> None:
        if self._in_file:
            return
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        self._name = options.get(b"name", b"").decode().lower()
        if self._name == FILE:
            self._in_file = True
            self.form.file_name = options.get(b"filename", b"").decode()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._keep(self._value, data, start, end)
        elif not self._ended:
            self._content.append(bytes(data[start:end]))

    def _on_part_end(self) -> None:
        if self._in_file:
            self._ended = True
        elif self._name in self.form.fields:
            raise BadForm(f"The form has the field {self._name[:100]} twice.")
        else:
            self.form.fields[self._name] = self._value.decode()

    def _keep(self, held: bytearray, data: bytes, start: int, end: int) -> None:
        held += data[start:end]
        self._size += end - start
        if not self._ended:
            self._check_size(self._size)

    def _check_size(self, size: int) -> None:
        """So much came ahead of the file."""
        if size > FIELDS_BYTES:
            raise FormTooLarge("Your POST request fields preceding the upload file were too large.")
