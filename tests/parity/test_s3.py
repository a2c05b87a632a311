"""The object store as stock boto3 sees it."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.parity.conftest import Platform

MIB = 1 << 20


@pytest.fixture(scope="module")
def s3(platform: Platform) -> Any:
    return platform.s3()


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    name = f"b-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield name
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        for one in page.get("Contents", []):
            s3.delete_object(Bucket=name, Key=one["Key"])
    s3.delete_bucket(Bucket=name)


def code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_buckets_are_made_listed_and_removed(s3: Any) -> None:
    s3.create_bucket(Bucket="one-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert "one-bucket" in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert s3.get_bucket_location(Bucket="one-bucket")["LocationConstraint"] == "eu-central-1"
    assert s3.head_bucket(Bucket="one-bucket")["BucketRegion"] == "eu-central-1"
    with pytest.raises(ClientError) as caught:
        s3.create_bucket(Bucket="one-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert code(caught) == "BucketAlreadyOwnedByYou"
    s3.put_object(Bucket="one-bucket", Key="k", Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.delete_bucket(Bucket="one-bucket")
    assert code(caught) == "BucketNotEmpty"
    s3.delete_object(Bucket="one-bucket", Key="k")
    s3.delete_bucket(Bucket="one-bucket")
    s3.get_waiter("bucket_not_exists").wait(Bucket="one-bucket", WaiterConfig={"Delay": 0, "MaxAttempts": 1})


def test_changes_to_buckets_are_in_the_audit(platform: Platform, s3: Any, bucket: str) -> None:
    from alcove.cli.client import Client

    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with pytest.raises(ClientError):
        s3.delete_bucket(Bucket=bucket)
    lines = Client(platform.socket.parent).call("GET", "/alcove/v1/audit?tail=1000")["lines"]
    mine = [one for one in lines if one["resource"] == f"bucket={bucket}"]
    assert [(one["operation"], one["outcome"], one["key"]) for one in mine] == [
        ("s3.create_bucket", "done", platform.access_key),
        ("s3.delete_bucket", "BucketNotEmpty", platform.access_key),
    ]


@pytest.mark.parametrize("key", ["plain", "a b/ü+%2F&?=#/../x//y", "." * 3, "x" * 1024, "line\nbreak"])
def test_an_object_comes_back_as_it_was_put(s3: Any, bucket: str, key: str) -> None:
    body = hashlib.sha256(key.encode()).digest() * 5000
    put = s3.put_object(
        Bucket=bucket,
        Key=key,
        Body=body,
        ContentType="text/x-test",
        ContentDisposition="attachment",
        Metadata={"who": "me"},
    )
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == body
    assert (got["ContentType"], got["ContentDisposition"], got["Metadata"]) == (
        "text/x-test",
        "attachment",
        {"who": "me"},
    )
    head = s3.head_object(Bucket=bucket, Key=key)
    assert head["ContentLength"] == len(body)
    assert head["LastModified"] == got["LastModified"]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]


def test_parts_of_an_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    for span, wanted in (("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-3", b"789"), ("bytes=8-99", b"89")):
        got = s3.get_object(Bucket=bucket, Key="k", Range=span)
        assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (206, wanted)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=10-")
    assert code(caught) == "InvalidRange"


def test_conditions(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"1"
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", IfMatch='"other"')
    assert code(caught) == "PreconditionFailed"
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k", IfModifiedSince=modified)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert code(caught) == "PreconditionFailed"
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"


@pytest.mark.parametrize("version", [1, 2])
def test_listings_have_pages_prefixes_and_delimiters(s3: Any, bucket: str, version: int) -> None:
    keys = [f"dir{one}/file{two:02d}" for one in range(3) for two in range(12)] + ["a", "z", "ünter"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    pages = s3.get_paginator("list_objects_v2" if version == 2 else "list_objects")
    for size in (1, 2, 7, 1000):
        options = {"Bucket": bucket, "PaginationConfig": {"PageSize": size}}
        found = [one["Key"] for page in pages.paginate(**options) for one in page.get("Contents", [])]
        assert found == sorted(keys, key=str.encode)
        top: list[str] = []
        for page in pages.paginate(Delimiter="/", **options):
            top += [one["Prefix"] for one in page.get("CommonPrefixes", [])]
            top += [one["Key"] for one in page.get("Contents", [])]
        assert sorted(top) == sorted(["a", "dir0/", "dir1/", "dir2/", "z", "ünter"])
        inner = [
            one["Key"] for page in pages.paginate(Prefix="dir1/", Delimiter="/", **options) for one in page["Contents"]
        ]
        assert inner == [f"dir1/file{two:02d}" for two in range(12)]
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(deleted["Deleted"]) == len(keys)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_uploads_in_parts(s3: Any, bucket: str) -> None:
    parts = [b"a" * (5 * MIB), b"b" * (5 * MIB), b"end"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", ContentType="text/x-big")["UploadId"]
    assert [one["UploadId"] for one in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    known = []
    for number, data in enumerate(parts, 1):
        for body in (b"replaced", data):
            etag = s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        known.append({"PartNumber": number, "ETag": etag})
    listed = [
        (one["PartNumber"], one["Size"])
        for page in s3.get_paginator("list_parts").paginate(
            Bucket=bucket, Key="big", UploadId=upload, PaginationConfig={"PageSize": 2}
        )
        for one in page["Parts"]
    ]
    assert listed == [(number, len(data)) for number, data in enumerate(parts, 1)]
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(
            Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": [known[1], known[0]]}
        )
    assert code(caught) == "InvalidPartOrder"
    made = s3.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": known})
    digest = hashlib.md5(b"".join(hashlib.md5(data).digest() for data in parts)).hexdigest()
    assert made["ETag"] == f'"{digest}-3"'
    got = s3.get_object(Bucket=bucket, Key="big")
    assert got["ContentType"] == "text/x-big"
    assert got["Body"].read() == b"".join(parts)
    across = s3.get_object(Bucket=bucket, Key="big", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}")
    assert across["Body"].read() == b"aabb"
    with pytest.raises(ClientError) as caught:
        s3.list_parts(Bucket=bucket, Key="big", UploadId=upload)
    assert code(caught) == "NoSuchUpload"


def test_an_upload_is_aborted_and_small_parts_are_refused(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    known = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x")["ETag"],
        }
        for number in (1, 2)
    ]
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": known})
    assert code(caught) == "EntityTooSmall"
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with pytest.raises(ClientError) as caught:
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    assert code(caught) == "NoSuchUpload"


def test_copies(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from é", Body=b"content", Metadata={"a": "b"}, ContentType="text/x-a")
    s3.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from é"})
    got = s3.get_object(Bucket=bucket, Key="to")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"content", {"a": "b"}, "text/x-a")
    s3.copy_object(
        Bucket=bucket,
        Key="to",
        CopySource={"Bucket": bucket, "Key": "from é"},
        MetadataDirective="REPLACE",
        Metadata={"c": "d"},
    )
    assert s3.head_object(Bucket=bucket, Key="to")["Metadata"] == {"c": "d"}


def test_managed_transfers(s3: Any, bucket: str) -> None:
    """What boto3 cuts into parts and sends in several threads, from a file and from a stream."""
    from boto3.s3.transfer import TransferConfig

    data = bytes(range(256)) * (48 << 10)
    small = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(data), bucket, "up", Config=small)
    s3.copy({"Bucket": bucket, "Key": "up"}, bucket, "copy", Config=small)
    target = io.BytesIO()
    s3.download_fileobj(bucket, "copy", target, Config=small)
    assert target.getvalue() == data


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_presigned_urls(platform: Platform, s3: Any, bucket: str, region: str) -> None:
    signer = platform.s3(region=region)
    where = {"Bucket": bucket, "Key": "pre signed/ü"}
    put = urllib.request.Request(signer.generate_presigned_url("put_object", where), b"by url", method="PUT")
    put.add_unredirected_header("Content-Type", "")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    shown = {**where, "ResponseContentType": "text/x-asked"}
    with urllib.request.urlopen(signer.generate_presigned_url("get_object", shown)) as answer:
        assert answer.read() == b"by url"
        assert answer.headers["Content-Type"] == "text/x-asked"
    url = signer.generate_presigned_url("get_object", where)
    for wrong in (url[:-4] + "AAAA", url.replace("signed", "sighed"), url.replace("Expires=", "Expires=1")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(wrong)
        assert caught.value.code in (400, 403)
        caught.value.close()


def test_hosts_name_buckets(platform: Platform, bucket: str) -> None:
    """``localhost`` and what is under it is this machine (RFC 6761), for curl and browsers; here a resolver says so."""
    import socket

    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **options: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **options)

    socket.getaddrinfo = resolve
    try:
        client = platform.s3(endpoint=f"http://s3.localhost:{platform.s3_port}", s3={"addressing_style": "virtual"})
        client.put_object(Bucket=bucket, Key="by/host", Body=b"x")
        assert client.get_object(Bucket=bucket, Key="by/host")["Body"].read() == b"x"
        assert bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]
    finally:
        socket.getaddrinfo = real


def test_tenants_share_no_names(platform: Platform, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="secret", Body=b"mine")
    other = platform.s3(platform.other_access_key, platform.other_secret)
    for attempt in (
        lambda: other.head_object(Bucket=bucket, Key="secret"),
        lambda: other.get_object(Bucket=bucket, Key="secret"),
        lambda: other.put_object(Bucket=bucket, Key="secret", Body=b"theirs"),
        lambda: other.list_objects_v2(Bucket=bucket),
        lambda: other.delete_bucket(Bucket=bucket),
        lambda: other.get_bucket_notification_configuration(Bucket=bucket),
    ):
        with pytest.raises(ClientError) as caught:
            attempt()
        assert code(caught) in ("NoSuchBucket", "404")
    other.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert other.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    with pytest.raises(ClientError) as caught:
        other.copy_object(Bucket=bucket, Key="stolen", CopySource={"Bucket": bucket, "Key": "secret"})
    assert code(caught) == "NoSuchKey"
    other.delete_bucket(Bucket=bucket)
    assert s3.get_object(Bucket=bucket, Key="secret")["Body"].read() == b"mine"


def test_signatures_are_verified(platform: Platform, bucket: str) -> None:
    for key, secret, wanted in (
        (platform.access_key, "wrong", "SignatureDoesNotMatch"),
        ("AKALNOBODYNOBODYNOBO", "x", "InvalidAccessKeyId"),
    ):
        with pytest.raises(ClientError) as caught:
            platform.s3(key, secret).put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
        assert code(caught) == wanted
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{platform.s3_endpoint()}/{bucket}/k")
    assert refused.value.code == 403
    assert b"<Code>AccessDenied</Code>" in refused.value.read()
    refused.value.close()


def test_a_body_that_was_changed_on_the_way_is_not_stored(platform: Platform, s3: Any, bucket: str) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signed = AWSRequest("PUT", f"{platform.s3_endpoint()}/{bucket}/k", data=b"good")
    S3SigV4Auth(Credentials(platform.access_key, platform.secret), "s3", "eu-central-1").add_auth(signed)
    evil = urllib.request.Request(signed.url, b"evil", dict(signed.headers), method="PUT")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(evil)
    assert caught.value.code == 400
    assert b"XAmzContentSHA256Mismatch" in caught.value.read()
    caught.value.close()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    good = urllib.request.Request(signed.url, b"good", dict(signed.headers), method="PUT")
    with urllib.request.urlopen(good) as answer:
        assert answer.status == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"good"


def test_errors_have_s3s_shape(s3: Any, bucket: str) -> None:
    for attempt, wanted in (
        (lambda: s3.get_object(Bucket=bucket, Key="none"), "NoSuchKey"),
        (lambda: s3.get_object(Bucket="no-such-bucket", Key="none"), "NoSuchBucket"),
        (lambda: s3.put_object(Bucket="no-such-bucket", Key="k", Body=b"x" * MIB), "NoSuchBucket"),
        (lambda: s3.put_object(Bucket=bucket, Key="y" * 1025, Body=b""), "KeyTooLongError"),
        (lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA=="), "BadDigest"),
        (lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumSHA256="AAAA"), "InvalidRequest"),
        (lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5="AAAA"), "InvalidDigest"),
        (lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "b" * 3000}), "MetadataTooLarge"),
        (lambda: s3.get_bucket_acl(Bucket=bucket), "NotImplemented"),
        (lambda: s3.create_bucket(Bucket="Bad_Name"), "InvalidBucketName"),
        (lambda: s3.list_objects_v2(Bucket=bucket, ContinuationToken="%%%"), "InvalidArgument"),
    ):
        with pytest.raises(ClientError) as caught:
            attempt()
        assert code(caught) == wanted
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("operation", "options", "wanted"),
    [
        ("list_object_versions", {"Key": None}, "NotImplemented"),
        ("put_bucket_versioning", {"Key": None, "VersioningConfiguration": {"Status": "Enabled"}}, "NotImplemented"),
        ("put_object_tagging", {"Tagging": {"TagSet": []}}, "NotImplemented"),
        ("get_object", {"VersionId": "other"}, "NotImplemented"),
        ("put_object", {"StorageClass": "GLACIER"}, "NotImplemented"),
        ("put_object", {"Tagging": "a=b"}, "NotImplemented"),
        ("put_object", {"ACL": "public-read"}, "NotImplemented"),
        ("put_object", {"GrantRead": "id=1"}, "NotImplemented"),
        ("put_object", {"ServerSideEncryption": "AES256"}, "NotImplemented"),
        ("put_object", {"ObjectLockLegalHoldStatus": "ON"}, "NotImplemented"),
        ("put_object", {"WebsiteRedirectLocation": "/"}, "NotImplemented"),
        ("copy_object", {"CopySource": "k", "CopySourceIfMatch": "x"}, "PreconditionFailed"),
        ("copy_object", {"CopySource": "k"}, "InvalidRequest"),
        (
            "copy_object",
            {"CopySource": "k", "IfNoneMatch": "*", "MetadataDirective": "REPLACE"},
            "PreconditionFailed",
        ),
        ("delete_object", {"IfMatch": "x"}, "PreconditionFailed"),
        ("delete_object", {"ExpectedBucketOwner": "999999999999"}, "AccessDenied"),
        ("get_object", {"PartNumber": 2}, "InvalidPartNumber"),
    ],
)
def test_what_a_client_asks_for_is_done_or_refused(
    s3: Any, bucket: str, operation: str, options: dict[str, Any], wanted: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    call = {"Bucket": bucket, "Key": "k", **options}
    if "CopySource" in call:
        call["CopySource"] = {"Bucket": bucket, "Key": call["CopySource"]}
    with pytest.raises(ClientError) as caught:
        getattr(s3, operation)(**{name: value for name, value in call.items() if value is not None})
    assert code(caught) == wanted
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_deleting_what_is_still_the_same(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="b", Body=b"2")
    objects = [{"Key": "a", "ETag": etag}, {"Key": "b", "ETag": etag}, {"Key": "c", "VersionId": "v"}]
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [one["Key"] for one in done["Deleted"]] == ["a"]
    assert [(one["Key"], one["Code"]) for one in done["Errors"]] == [
        ("c", "NotImplemented"),
        ("b", "PreconditionFailed"),
    ]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b"]
    s3.delete_object(Bucket=bucket, Key="b", IfMatch="*")


def test_uploads_are_listed_by_pages_and_prefixes(s3: Any, bucket: str) -> None:
    keys = ["a/1", "a/2", "b", "b", "c d"]
    for key in keys:
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    pages = s3.get_paginator("list_multipart_uploads")
    found = [
        one["Key"]
        for page in pages.paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
        for one in page.get("Uploads", [])
    ]
    assert found == keys
    top = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", MaxUploads=2)
    assert ([one["Prefix"] for one in top["CommonPrefixes"]], top["IsTruncated"]) == (["a/"], True)


@pytest.mark.parametrize("payload", ["signed", "unsigned"])
def test_bodies_in_chunks(platform: Platform, bucket: str, payload: str) -> None:
    """As SDKs stream over TLS: chunks and a trailing checksum, made here by hand, for this is plain HTTP."""
    from tests.parity.s3_chunks import put

    body = bytes(range(256)) * 1000
    status, text = put(platform, bucket, "chunked", body, signed=payload == "signed")
    assert status == 200, text
    got = platform.s3().get_object(Bucket=bucket, Key="chunked")
    assert got["Body"].read() == body
    assert "aws-chunked" not in got.get("ContentEncoding", "")
    for damage in ("data", "trailer", "cut"):
        status, text = put(platform, bucket, f"bad-{damage}", body, signed=payload == "signed", damage=damage)
        assert status in (400, 403), (damage, text)
        with pytest.raises(ClientError) as caught:
            platform.s3().head_object(Bucket=bucket, Key=f"bad-{damage}")
        assert code(caught) == "404"
