"""What S3 has and we have not: a request that asks for it is refused in S3's words, never taken for another."""

from __future__ import annotations

from collections.abc import Mapping

from alcove.buckets.errors import NotImplementedHere
from alcove.errors import AccessDenied

# Words of the query. Tagging is answered for objects: that they have no tags.
_WORDS = frozenset(
    (
        *("abac", "accelerate", "acl", "analytics", "annotation", "cors", "encryption", "intelligent-tiering"),
        *("inventory", "legal-hold", "lifecycle", "logging", "metadataConfiguration", "metadataTable", "metrics"),
        *("object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "renameObject"),
        *("replication", "requestPayment", "restore", "retention", "select", "session", "torrent", "versionId"),
        *("versions", "website"),
    )
)
# Beginnings of headers, and the values that ask for nothing that we do not do.
_HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("x-amz-acl", ("private", "bucket-owner-full-control")),
    ("x-amz-bucket-object-lock", ("false",)),
    ("x-amz-bypass-governance-retention", ("false",)),
    ("x-amz-copy-source-server-side-encryption", ()),
    ("x-amz-grant-", ()),
    ("x-amz-if-match-", ()),
    ("x-amz-mfa", ()),
    ("x-amz-object-annotation-directive", ("COPY",)),
    ("x-amz-object-lock-", ()),
    ("x-amz-server-side-encryption", ()),
    ("x-amz-storage-class", ("STANDARD",)),
    ("x-amz-tagging", ("", "COPY", "REPLACE")),
    ("x-amz-website-redirect-location", ()),
    ("x-amz-write-offset-bytes", ()),
)
_OWNERS = ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner")


def check(query: Mapping[str, str], headers: Mapping[str, str]) -> None:
    """Raises ``NotImplementedHere``."""
    words = sorted(_WORDS & query.keys())
    if words and query.get("versionId") != "null":
        raise NotImplementedHere(f"A query parameter you provided implies functionality not implemented: {words[0]}")
    for name, value in headers.items():
        for beginning, harmless in _HEADERS:
            if name.startswith(beginning) and value not in harmless:
                raise NotImplementedHere(f"A header you provided implies functionality that is not implemented: {name}")


def check_owner(headers: Mapping[str, str], tenant: str) -> None:
    """A client may say whose bucket it means. Raises ``AccessDenied``."""
    if any(headers.get(name, tenant) != tenant for name in _OWNERS):
        raise AccessDenied("Access Denied", code="missing", hint="the bucket's owner is not the expected one")
