"""A message: what may be in it, its digests as SDKs check them, its receipt handle."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alcove.errors import InvalidRequest
from alcove.queues.faults import BadContents, BadReceipt

MESSAGE_LIMIT = 256 * 1024
ATTRIBUTE_LIMIT = 10
# "SendMessage" in the SQS API reference: the characters of XML 1.0.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"(?!(?i:aws|amazon)\.)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TYPE = re.compile(r"(String|Number|Binary)(\.[\x20-\x7e]{1,247})?")
# "SendMessage" in the SQS API reference: letters, digits and punctuation of ASCII.
_FIFO_ID = re.compile(r"[\x21-\x7e]{1,128}")
_HANDLE = re.compile(r"([0-9]{1,18}):([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be sent. ``attributes`` are as SQS names them; ``message_id`` where the sender knows one."""

    body: str
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    delay_s: int | None = None
    message_id: str = ""
    group_id: str = ""
    deduplication_id: str = ""

    @property
    def size(self) -> int:
        """SQS counts bodies, and names, types and values of attributes."""
        values = sum(
            len(name.encode()) + len(one["DataType"].encode()) + len(value_of(one)[1])
            for name, one in self.attributes.items()
        )
        return len(self.body.encode()) + values


def check_fifo_id(name: str, text: Any) -> str:
    """Return a MessageGroupId, MessageDeduplicationId or ReceiveRequestAttemptId, "" where there is none.

    Raises ``InvalidRequest``.
    """
    if text is None:
        return ""
    if not isinstance(text, str) or not _FIFO_ID.fullmatch(text):
        raise InvalidRequest(
            f"Value {str(text)[:128]!r} for parameter {name} is invalid. "
            "Reason: it has 1 to 128 letters, digits or marks of ASCII."
        )
    return text


def check_body(body: Any) -> str:
    """Raises ``InvalidRequest``, ``BadContents``."""
    if not isinstance(body, str) or not body:
        raise InvalidRequest("The request must contain the parameter MessageBody.")
    if _FORBIDDEN.search(body):
        raise BadContents("The message contains characters outside the allowed set.")
    return body


def check_attributes(given: Any) -> dict[str, dict[str, str]]:
    """Return a message's attributes with nothing but type and value. Raises ``InvalidRequest``."""
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) > ATTRIBUTE_LIMIT:
        raise InvalidRequest(f"A message has at most {ATTRIBUTE_LIMIT} attributes.")
    return {name: _check_attribute(name, one) for name, one in given.items()}


def _check_attribute(name: str, one: Any) -> dict[str, str]:
    if len(name) > 256 or not _NAME.fullmatch(name):
        raise InvalidRequest(f"The message attribute name {name[:80]!r} is invalid.")
    kind = one.get("DataType") if isinstance(one, dict) else None
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise InvalidRequest(f"The message attribute {name!r} must have a type: String, Number or Binary.")
    part = "BinaryValue" if kind.startswith("Binary") else "StringValue"
    value = one.get(part)
    if not isinstance(value, str) or not value or _FORBIDDEN.search(value):
        raise InvalidRequest(f"The message attribute {name!r} must have a {part}.")
    if part == "BinaryValue":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(f"The message attribute {name!r} is not base64.") from None
    return {"DataType": kind, part: value}


def value_of(attribute: Mapping[str, str]) -> tuple[bool, bytes]:
    """Return whether the value is binary, and its bytes."""
    if "BinaryValue" in attribute:
        return True, base64.b64decode(attribute["BinaryValue"])
    return False, attribute["StringValue"].encode()


def digest_of_body(body: str) -> str:
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def digest_of_attributes(attributes: Mapping[str, Mapping[str, str]]) -> str:
    """As of "Calculating the MD5 message digest for message attributes", SQS developer guide."""
    found = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        binary, value = value_of(attributes[name])
        for part in (name.encode(), attributes[name]["DataType"].encode()):
            found.update(struct.pack(">I", len(part)) + part)
        found.update((b"\x02" if binary else b"\x01") + struct.pack(">I", len(value)) + value)
    return found.hexdigest()


def sequence_number(sequence: int) -> str:
    """As SQS writes them: twenty digits."""
    return f"{sequence:020d}"


def make_handle(sequence: int, receipt: str) -> str:
    return base64.urlsafe_b64encode(f"{sequence}:{receipt}".encode()).decode()


def read_handle(handle: Any) -> tuple[int, str]:
    """Return sequence and receipt. Raises ``BadReceipt``."""
    try:
        found = _HANDLE.fullmatch(base64.urlsafe_b64decode(handle).decode()) if len(handle) < 200 else None
    except (ValueError, TypeError):
        found = None
    if found is None:
        raise BadReceipt("The input receipt handle is invalid.")
    return int(found[1]), found[2]
