"""Buckets, objects and uploads, as the service hands them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alcove.buckets.checksums import Kind, Plan
from alcove.sandbox.protocol import TenantId

# Amazon S3's own limits, but for the number of buckets.
OBJECT_LIMIT = 5 << 30  # of one PUT or one part
UPLOAD_LIMIT = 5 << 40
PART_COUNT = 10_000
PART_LEAST = 5 << 20  # of all parts but the last
METADATA_LIMIT = 2048
DEFAULT_TYPE = "binary/octet-stream"  # of content whose client names none
BUCKETS_LIMIT = 1000
UPLOADS_LIMIT = 1000  # under way, of one bucket


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is kept with an object: ``headers`` (content type and the like), ``metadata`` of the user's, its checksum
    (at most one, by its algorithm).
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_kind: str = Kind.FULL_OBJECT


@dataclass(frozen=True, slots=True)
class Bucket:
    id: str
    tenant: TenantId
    name: str
    created_ms: int
    notification: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of an object's content. ``checksum``: of a part, by its object's algorithm."""

    blob: str
    size: int
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """``id`` is the sequencer: of two objects under one key, the later has the greater."""

    id: int
    key: str
    size: int
    etag: str
    modified_ms: int
    attributes: Attributes = field(default_factory=Attributes)

    @property
    def in_parts(self) -> bool:
        """Whether it was uploaded in parts."""
        return "-" in self.etag


@dataclass(frozen=True, slots=True)
class Written:
    """Content on the disk that no row names yet."""

    segment: Segment
    md5: str
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    segment: Segment
    etag: str
    modified_ms: int


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    key: str
    created_ms: int
    attributes: Attributes = field(default_factory=Attributes)
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing; ``after`` is what the next page comes after, None at the end."""

    objects: tuple[StoredObject, ...]
    prefixes: tuple[str, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may store."""

    bytes: int
    objects: int
    uploads_kept_ms: int = 7 * 24 * 3_600_000  # from the beginning of an upload in parts to its end
