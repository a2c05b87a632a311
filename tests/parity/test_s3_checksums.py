"""Checksums of objects as stock boto3 sends, asks for and checks them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from awscrt import checksums as crt
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from tests.parity.conftest import Platform

from alcove.buckets.checksums import ALGORITHMS

MIB = 1 << 20
BODY = bytes(range(256)) * 999


@pytest.fixture(scope="module")
def s3(platform: Platform) -> Any:
    return platform.s3(request_checksum_calculation="when_required")


@pytest.fixture(scope="module")
def bucket(s3: Any) -> Iterator[str]:
    s3.create_bucket(Bucket="checked", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield "checked"
    for one in s3.list_objects_v2(Bucket="checked")["Contents"]:
        s3.delete_object(Bucket="checked", Key=one["Key"])
    s3.delete_bucket(Bucket="checked")


def code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def b64(value: int, size: int) -> str:
    return base64.b64encode(value.to_bytes(size, "big")).decode()


@pytest.mark.parametrize("name", [name.upper() for name in ALGORITHMS])
def test_each_algorithm(s3: Any, bucket: str, name: str) -> None:
    # botocore computes all but MD5.
    md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    how = {"ChecksumMD5": md5} if name == "MD5" else {"ChecksumAlgorithm": name}
    put = s3.put_object(Bucket=bucket, Key=name, Body=BODY, **how)
    assert put["ChecksumType"] == "FULL_OBJECT"
    got = s3.get_object(Bucket=bucket, Key=name, ChecksumMode="ENABLED")
    assert got["Body"].read() == BODY, "checked by the client"
    assert got[f"Checksum{name}"] == put[f"Checksum{name}"]
    assert f"Checksum{name}" not in s3.head_object(Bucket=bucket, Key=name)
    assert s3.head_object(Bucket=bucket, Key=name, ChecksumMode="ENABLED")[f"Checksum{name}"] == put[f"Checksum{name}"]
    wrong = base64.b64encode(bytes(len(base64.b64decode(put[f"Checksum{name}"])))).decode()
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="wrong", Body=BODY, **{f"Checksum{name}": wrong})
    assert code(caught) == "BadDigest"
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="wrong", Body=BODY, **{f"Checksum{name}": "AA=="})
    assert code(caught) == "InvalidRequest"
    with pytest.raises(ClientError):
        s3.head_object(Bucket=bucket, Key="wrong")


def test_without_one_the_server_computes_crc64nvme(s3: Any, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="plain", Body=BODY)
    assert put["ChecksumCRC64NVME"] == b64(crt.crc64nvme(BODY), 8)
    seen = s3.get_object_attributes(
        Bucket=bucket, Key="plain", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "ObjectSize", "StorageClass"]
    )
    assert seen["Checksum"] == {"ChecksumCRC64NVME": put["ChecksumCRC64NVME"], "ChecksumType": "FULL_OBJECT"}
    assert (seen["ETag"], seen["ObjectSize"], seen["StorageClass"]) == (put["ETag"].strip('"'), len(BODY), "STANDARD")
    assert "ObjectParts" not in seen


def test_copies_keep_the_algorithm_or_have_the_one_asked_for(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="from", Body=BODY, ChecksumAlgorithm="CRC32C")
    source = {"Bucket": bucket, "Key": "from"}
    made = s3.copy_object(Bucket=bucket, Key="to", CopySource=source)["CopyObjectResult"]
    assert made["ChecksumCRC32C"] == b64(crt.crc32c(BODY), 4)
    made = s3.copy_object(Bucket=bucket, Key="to", CopySource=source, ChecksumAlgorithm="SHA1")["CopyObjectResult"]
    assert "ChecksumCRC32C" not in made
    assert "ChecksumSHA1" in made
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket=bucket, Key="from", CopySource=source)
    assert code(caught) == "InvalidRequest"


def upload(s3: Any, bucket: str, parts: list[bytes], **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the request that would complete it, and the answers to its parts."""
    begun = s3.create_multipart_upload(Bucket=bucket, Key="parts", **options)
    where = {"Bucket": bucket, "Key": "parts", "UploadId": begun["UploadId"]}
    name = options.get("ChecksumAlgorithm", "")
    extra = {"ChecksumAlgorithm": name} if name else {}
    answers = [s3.upload_part(**where, PartNumber=n, Body=data, **extra) for n, data in enumerate(parts, 1)]
    keys = ("ETag", f"Checksum{name}")
    named = [{"PartNumber": n, **{key: one[key] for key in keys if key in one}} for n, one in enumerate(answers, 1)]
    return {**where, "MultipartUpload": {"Parts": named}}, answers


PARTS = [b"a" * (5 * MIB), b"b" * (5 * MIB + 1), b"end"]


@pytest.mark.parametrize(
    ("name", "kind"), [("", ""), ("CRC64NVME", ""), ("CRC32", "FULL_OBJECT"), ("CRC32C", "FULL_OBJECT")]
)
def test_uploads_in_parts_whose_checksum_is_of_the_whole(s3: Any, bucket: str, name: str, kind: str) -> None:
    options = {"ChecksumAlgorithm": name} if name else {}
    request, answers = upload(s3, bucket, PARTS, **options, **({"ChecksumType": kind} if kind else {}))
    shown = name or "CRC64NVME"
    assert f"Checksum{shown}" in answers[0]
    function, size = {"CRC64NVME": (crt.crc64nvme, 8), "CRC32": (zlib.crc32, 4), "CRC32C": (crt.crc32c, 4)}[shown]
    whole = b64(function(b"".join(PARTS)), size)
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**request, **{f"Checksum{shown}": b64(1, size)})
    assert code(caught) == "BadDigest"
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**request, ChecksumType="COMPOSITE")
    assert code(caught) == "BadDigest"
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**request, MpuObjectSize=3)
    assert code(caught) == "InvalidRequest"
    made = s3.complete_multipart_upload(**request, **{f"Checksum{shown}": whole}, ChecksumType="FULL_OBJECT")
    assert (made[f"Checksum{shown}"], made["ChecksumType"]) == (whole, "FULL_OBJECT")
    got = s3.get_object(Bucket=bucket, Key="parts", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(PARTS), "checked by the client"


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "SHA1", "SHA256", "XXHASH128"])
def test_uploads_in_parts_whose_checksum_is_composite(s3: Any, bucket: str, name: str) -> None:
    request, answers = upload(s3, bucket, PARTS, ChecksumAlgorithm=name)
    listed = s3.list_parts(**{key: request[key] for key in ("Bucket", "Key", "UploadId")})
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (name, "COMPOSITE")
    assert [one[f"Checksum{name}"] for one in listed["Parts"]] == [one[f"Checksum{name}"] for one in answers]
    with pytest.raises(ClientError) as caught:
        s3.upload_part(
            Bucket=bucket, Key="parts", UploadId=request["UploadId"], PartNumber=9, Body=b"", ChecksumAlgorithm="SHA512"
        )
    assert code(caught) == "InvalidRequest"
    good = request["MultipartUpload"]["Parts"][0][f"Checksum{name}"]
    request["MultipartUpload"]["Parts"][0][f"Checksum{name}"] = answers[1][f"Checksum{name}"]
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**request)
    assert code(caught) == "InvalidPart"
    request["MultipartUpload"]["Parts"][0][f"Checksum{name}"] = good
    made = s3.complete_multipart_upload(**request)
    assert made["ChecksumType"] == "COMPOSITE"
    assert made[f"Checksum{name}"].endswith("-3")
    seen = s3.get_object_attributes(
        Bucket=bucket, Key="parts", ObjectAttributes=["Checksum", "ObjectParts"], MaxParts=2
    )
    assert seen["Checksum"][f"Checksum{name}"] == made[f"Checksum{name}"].rpartition("-")[0] + "-3"
    parts = seen["ObjectParts"]
    assert (parts["TotalPartsCount"], parts["IsTruncated"], parts["NextPartNumberMarker"]) == (3, True, 2)
    assert [(one["Size"], one[f"Checksum{name}"]) for one in parts["Parts"]] == [
        (len(data), answer[f"Checksum{name}"]) for data, answer in zip(PARTS[:2], answers, strict=False)
    ]
    got = s3.get_object(Bucket=bucket, Key="parts", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(PARTS)


def test_parts_of_an_object_by_their_numbers(s3: Any, bucket: str) -> None:
    request, _ = upload(s3, bucket, PARTS)
    s3.complete_multipart_upload(**request)
    for number, data in enumerate(PARTS, 1):
        got = s3.get_object(Bucket=bucket, Key="parts", PartNumber=number)
        assert (got["Body"].read(), got["PartsCount"]) == (data, 3)
    head = s3.head_object(Bucket=bucket, Key="parts", PartNumber=3)
    assert (head["ContentLength"], head["PartsCount"]) == (3, 3)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="parts", PartNumber=4)
    assert code(caught) == "InvalidPartNumber"


def test_managed_uploads_with_a_checksum(s3: Any, bucket: str) -> None:
    from boto3.s3.transfer import TransferConfig

    data = b"".join(PARTS)
    small = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    whole = {"ChecksumCRC64NVME": b64(crt.crc64nvme(data), 8)}
    for extra in ({"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "CRC64NVME"}, whole):
        s3.upload_fileobj(io.BytesIO(data), bucket, "managed", Config=small, ExtraArgs=extra)
        target = io.BytesIO()
        s3.download_fileobj(bucket, "managed", target, Config=small)
        assert target.getvalue() == data


def put_with_trailer(platform: Platform, key: str, trailer: tuple[str, str], **headers: str) -> tuple[int, bytes]:
    """As SDKs do over TLS: the checksum after the content."""
    request = AWSRequest(
        "PUT",
        f"{platform.s3_endpoint()}/checked/{key}",
        headers={
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": "5",
            "x-amz-trailer": trailer[0],
            **headers,
        },
    )
    signer = S3SigV4Auth(Credentials(platform.access_key, platform.secret), "s3", "eu-central-1")
    signer.payload = lambda _: "STREAMING-UNSIGNED-PAYLOAD-TRAILER"  # type: ignore[method-assign]
    signer.add_auth(request)
    body = f"5\r\nhello\r\n0\r\n{trailer[0]}:{trailer[1]}\r\n\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", platform.s3_port, timeout=20)
    try:
        connection.request("PUT", f"/checked/{key}", body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_checksums_after_the_content(platform: Platform, s3: Any, bucket: str) -> None:
    crc = b64(crt.crc64nvme(b"hello"), 8)
    assert put_with_trailer(platform, "late", ("x-amz-checksum-crc64nvme", crc))[0] == 200
    assert s3.head_object(Bucket=bucket, Key="late", ChecksumMode="ENABLED")["ChecksumCRC64NVME"] == crc
    crc = b64(crt.crc32c(b"hello"), 4)
    assert put_with_trailer(platform, "late", ("x-amz-checksum-crc32c", crc))[0] == 200
    for trailer, headers, wanted in (
        (("x-amz-checksum-crc32c", b64(1, 4)), {}, b"BadDigest"),
        (("x-amz-checksum-crc8", b64(1, 1)), {}, b"InvalidRequest"),
        (("x-amz-checksum-crc32c", crc), {"x-amz-checksum-sha1": "A" * 27 + "="}, b"InvalidRequest"),
        (("x-amz-checksum-crc32c", crc), {"x-amz-sdk-checksum-algorithm": "SHA1"}, b"InvalidRequest"),
    ):
        status, text = put_with_trailer(platform, "bad", trailer, **headers)
        assert (status, wanted in text) == (400, True), text
    assert "bad" not in [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]


@pytest.mark.parametrize("version", [1, 2])
def test_listings_name_the_checksum(s3: Any, bucket: str, version: int) -> None:
    for name in ("SHA256", "CRC32"):
        s3.put_object(Bucket=bucket, Key=f"listed/{name}", Body=b"x", ChecksumAlgorithm=name)
    s3.put_object(Bucket=bucket, Key="listed/none", Body=b"x")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="listed/parts", ChecksumAlgorithm="SHA1")["UploadId"]
    where = {"Bucket": bucket, "Key": "listed/parts", "UploadId": upload}
    part = s3.upload_part(**where, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA1")
    known = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA1": part["ChecksumSHA1"]}
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [known]})
    listing = s3.list_objects_v2 if version == 2 else s3.list_objects
    found = listing(Bucket=bucket, Prefix="listed/")["Contents"]
    assert {one["Key"][7:]: (one["ChecksumAlgorithm"], one["ChecksumType"]) for one in found} == {
        "SHA256": (["SHA256"], "FULL_OBJECT"),
        "CRC32": (["CRC32"], "FULL_OBJECT"),
        "none": (["CRC64NVME"], "FULL_OBJECT"),
        "parts": (["SHA1"], "COMPOSITE"),
    }
