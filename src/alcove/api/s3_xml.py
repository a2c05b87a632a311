"""S3's XML, written and read. What is read is hostile: no document type, no entities, bounded before it comes here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from alcove.buckets.errors import MalformedXML
from alcove.gateway.message import Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# A value of an element: text, or (name, value) pairs of elements within, or a list of such for repeated ones.
Fields = Iterable[tuple[str, Any]]


def document(root: str, fields: Fields, *, status: int = 200, bare: bool = False) -> Response:
    """An XML answer; ``bare`` is without the namespace, as errors are. A field that is None is left out."""
    element = Element(root) if bare else Element(root, xmlns=NAMESPACE)
    _fill(element, fields)
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(element, encoding="utf-8", xml_declaration=False)
    return Response(status, {"Content-Type": "application/xml"}, body)


def _fill(element: Element, fields: Fields) -> None:
    for name, value in fields:
        if value is None:
            continue
        inner = SubElement(element, name)
        if isinstance(value, bool):
            inner.text = "true" if value else "false"
        elif isinstance(value, str | int):
            inner.text = str(value)
        else:
            _fill(inner, value)


def parse(data: bytes, root: str) -> Element:
    """Return the root, whose name (namespace aside) must be ``root``. Raises ``MalformedXML``."""
    try:
        element: Element = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise MalformedXML("The XML you provided was not well-formed or did not validate.") from error
    if local_name(element) != root:
        raise MalformedXML(f"The XML you provided has no {root} at its root.")
    return element


def local_name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def children(element: Element, name: str) -> list[Element]:
    return [child for child in element if local_name(child) == name]


def text(element: Element, name: str, default: str = "") -> str:
    """The text of the first child of that name."""
    for child in children(element, name):
        return child.text or ""
    return default


def shown(query: Callable[[str], str], key: str) -> str:
    """A key as a listing shows it: encoded where its request asks for that."""
    return quote(key, safe="/-_.~*") if query("encoding-type") == "url" else key


def stamp(moment_ms: int) -> str:
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment_ms % 1000:03d}Z"
