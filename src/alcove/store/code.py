"""What packages and images versions and layers refer to. Each function runs inside ``Database.read``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from sqlite3 import Connection

_PACKAGE = (
    "SELECT EXISTS (SELECT 1 FROM versions WHERE package_sha256 = ?1) "
    "OR EXISTS (SELECT 1 FROM layer_versions WHERE package_sha256 = ?1) "
    "OR EXISTS (SELECT 1 FROM versions WHERE layers <> '[]' AND instr(layers, ?1))"
)
_IMAGE = "SELECT EXISTS (SELECT 1 FROM versions WHERE image_digest = ?1)"


def unused_packages(connection: Connection, packages: Iterable[str]) -> set[str]:
    """Return those that no version and no layer refers to."""
    return {sha256 for sha256 in packages if not connection.execute(_PACKAGE, (sha256,)).fetchone()[0]}


def unused_images(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Return those that no version refers to."""
    return {digest for digest in digests if not connection.execute(_IMAGE, (digest,)).fetchone()[0]}


def code_in_use(connection: Connection) -> tuple[set[str], set[str]]:
    """Return every package and every image that something refers to."""
    packages = {str(row[0]) for row in connection.execute("SELECT package_sha256 FROM layer_versions")}
    images = set()
    for package, image in connection.execute("SELECT DISTINCT package_sha256, image_digest FROM versions"):
        packages.add(str(package))
        images.add(str(image))
    for (text,) in connection.execute("SELECT DISTINCT layers FROM versions WHERE layers <> '[]'"):
        packages.update(str(one[1]) for one in json.loads(text))
    return packages, images
