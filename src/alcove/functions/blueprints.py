"""Blueprints: small functions to begin with. CFC's clients make a function of one by its id."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from alcove.errors import NotFound

_PYTHON = """\
def handler(event, context):
    return "Hello World"
"""
_NODE = """\
exports.handler = async (event, context) => "Hello World";
"""


@dataclass(frozen=True, slots=True)
class Blueprint:
    id: str
    runtime: str
    handler: str
    description: str
    files: Mapping[str, str]

    def package(self) -> bytes:
        """Return the zip, the same bytes each time."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, text in self.files.items():
                archive.writestr(zipfile.ZipInfo(name), text)
        return buffer.getvalue()


BLUEPRINTS = {
    one.id: one
    for one in (
        Blueprint("hello-nodejs", "nodejs18.x", "index.handler", "Hello World in JavaScript", {"index.js": _NODE}),
        Blueprint("hello-python", "python3.11", "index.handler", "Hello World in Python", {"index.py": _PYTHON}),
    )
}


def find_blueprint(name: str) -> Blueprint:
    """Raises ``NotFound``."""
    found = BLUEPRINTS.get(name)
    if found is None:
        raise NotFound(f"There is no blueprint {name[:60]!r}.", hint=f"known: {', '.join(BLUEPRINTS)}")
    return found
