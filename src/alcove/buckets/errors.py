"""What can be wrong with a request to a bucket. Each has S3's code and status ("Error responses", Amazon S3 API
reference); their places in the tree of ``alcove.errors`` say what a caller can do.
"""

from __future__ import annotations

from alcove.errors import AlcoveError, CapacityError, Conflict, InvalidRequest, NotFound, RequestError, ThrottledError


class BucketError(AlcoveError):
    code = "InvalidRequest"
    status = 400


class NoSuchBucket(BucketError, NotFound):
    code, status = "NoSuchBucket", 404


class NoSuchKey(BucketError, NotFound):
    code, status = "NoSuchKey", 404


class NoSuchUpload(BucketError, NotFound):
    code, status = "NoSuchUpload", 404


class BucketNotEmpty(BucketError, Conflict):
    code, status = "BucketNotEmpty", 409


class BucketExists(BucketError, Conflict):
    code, status = "BucketAlreadyOwnedByYou", 409


class TooManyBuckets(BucketError, InvalidRequest):
    code = "TooManyBuckets"


class BadBucketName(BucketError, InvalidRequest):
    code = "InvalidBucketName"


class BadArgument(BucketError, InvalidRequest):
    code = "InvalidArgument"


class BadRequest(BucketError, InvalidRequest):
    code = "InvalidRequest"


class InvalidDigest(BucketError, InvalidRequest):
    code = "InvalidDigest"


class MalformedXML(BucketError, InvalidRequest):
    code = "MalformedXML"


class KeyTooLong(BucketError, InvalidRequest):
    code = "KeyTooLongError"


class MetadataTooLarge(BucketError, InvalidRequest):
    code = "MetadataTooLarge"


class EntityTooLarge(BucketError, InvalidRequest):
    code = "EntityTooLarge"


class EntityTooSmall(BucketError, InvalidRequest):
    code = "EntityTooSmall"


class InvalidPart(BucketError, InvalidRequest):
    code = "InvalidPart"


class InvalidPartOrder(BucketError, InvalidRequest):
    code = "InvalidPartOrder"


class BadDigest(BucketError, InvalidRequest):
    code = "BadDigest"


class IncompleteBody(BucketError, InvalidRequest):
    code = "IncompleteBody"


class MissingLength(BucketError, InvalidRequest):
    code, status = "MissingContentLength", 411


class PreconditionFailed(BucketError, RequestError):
    code, status = "PreconditionFailed", 412


class NotModified(BucketError, RequestError):
    code, status = "NotModified", 304


class InvalidRange(BucketError, InvalidRequest):
    code, status = "InvalidRange", 416


class InvalidPartNumber(BucketError, InvalidRequest):
    code, status = "InvalidPartNumber", 416


class QuotaExceeded(BucketError, RequestError):
    code, status = "QuotaExceeded", 403


class SlowDown(BucketError, ThrottledError):
    code, status = "SlowDown", 503


class DiskFull(BucketError, CapacityError):
    """507, as S3-compatible stores answer; clients do not try again by themselves."""

    code, status = "InsufficientStorage", 507


class BadFormError(BucketError, InvalidRequest):
    code = "MalformedPOSTRequest"


class FieldsTooLarge(BucketError, InvalidRequest):
    code = "MaxPostPreDataLengthExceeded"


class BadPolicy(BucketError, InvalidRequest):
    code = "InvalidPolicyDocument"


class PolicyViolated(BucketError, RequestError):
    code, status = "AccessDenied", 403


class NotImplementedHere(BucketError, RequestError):
    code, status = "NotImplemented", 501


class MethodNotAllowed(BucketError, RequestError):
    code, status = "MethodNotAllowed", 405
