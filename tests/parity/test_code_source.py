"""Code that lies in a bucket of the tenant's own, named as stock clients of both clouds name it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from baidubce.exception import BceHttpClientError
from tests.parity.conftest import HELLO, ROLE, Platform, zipped
from tests.parity.go_sdk import conftest as go_sdk
from tests.parity.test_boto3 import refused
from tests.stock_clients.go import GoClient

from alcove.api import code_source
from alcove.api.code_source import PackageRoom
from alcove.errors import ThrottledError
from alcove.sandbox.protocol import TenantId

OTHER = zipped({"app.py": b"def handler(event, context):\n    return 2\n"})
BUCKET = "code-source"
INVALID = ("InvalidParameterValueException", 400)


def digest(package: bytes) -> str:
    return base64.b64encode(hashlib.sha256(package).digest()).decode()


@pytest.fixture(scope="module", autouse=True)
def bucket(platform: Platform) -> Iterator[None]:
    s3 = platform.s3()
    s3.create_bucket(Bucket=BUCKET)
    objects = {"a/hello.zip": HELLO, "other.zip": OTHER, "large": bytes((50 << 20) + 1), "text": b"no zip"}
    for key, body in objects.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    yield
    for key in objects:
        s3.delete_object(Bucket=BUCKET, Key=key)
    s3.delete_bucket(Bucket=BUCKET)


def create(aws: Any, name: str, **code: Any) -> Any:
    return aws.create_function(FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="echo", Code=code)


def test_boto3_names_code_in_s3(aws: Any) -> None:
    made = create(aws, "from-s3", S3Bucket=BUCKET, S3Key="a/hello.zip", S3ObjectVersion="null")
    assert (made["CodeSha256"], made["CodeSize"]) == (digest(HELLO), len(HELLO))
    assert aws.invoke(FunctionName="from-s3", Payload=b"[1]")["Payload"].read() == b"[1]"
    changed = aws.update_function_code(FunctionName="from-s3", S3Bucket=BUCKET, S3Key="other.zip", Publish=True)
    assert (changed["CodeSha256"], changed["Version"]) == (digest(OTHER), "1")
    layer = aws.publish_layer_version(LayerName="from-s3", Content={"S3Bucket": BUCKET, "S3Key": "other.zip"})
    assert layer["Content"]["CodeSha256"] == digest(OTHER)
    aws.delete_layer_version(LayerName="from-s3", VersionNumber=1)
    aws.delete_function(FunctionName="from-s3")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"S3Bucket": BUCKET, "S3Key": "none"}, "NoSuchKey"),
        ({"S3Bucket": "no-such-bucket", "S3Key": "none"}, "NoSuchBucket"),
        ({"S3Bucket": "../../etc", "S3Key": "passwd"}, "NoSuchBucket"),
        ({"S3Bucket": BUCKET, "S3Key": "../alcove.db"}, "NoSuchKey"),
        ({"S3Bucket": BUCKET}, "a bucket and a key"),
        ({"S3Key": "text"}, "a bucket and a key"),
        ({"S3Bucket": BUCKET, "S3Key": "text"}, "unzip"),
        ({"S3Bucket": BUCKET, "S3Key": "other.zip", "S3ObjectVersion": "v7"}, "S3ObjectVersion"),
        ({"S3Bucket": BUCKET, "S3Key": "other.zip", "ZipFile": HELLO}, "twice"),
    ],
)
def test_what_is_not_there_is_refused(platform: Platform, code: dict[str, Any], message: str) -> None:
    aws = platform.aws(parameter_validation=False)
    status = refused(create, aws, "from-nowhere", **code)
    assert status[:2] == INVALID
    assert message in status[2]


def test_a_package_that_is_too_large_is_not_read(aws: Any) -> None:
    code, status, _ = refused(create, aws, "from-large", S3Bucket=BUCKET, S3Key="large")
    assert (code, status) == ("RequestEntityTooLargeException", 413)


def test_nobody_reads_a_strangers_bucket(platform: Platform) -> None:
    stranger = platform.aws(platform.other_access_key, platform.other_secret)
    status = refused(create, stranger, "from-others", S3Bucket=BUCKET, S3Key="other.zip")
    assert status[:2] == INVALID
    assert "NoSuchBucket" in status[2]


def test_the_go_client_names_code_in_bos(platform: Platform) -> None:
    with GoClient(platform.url, platform.access_key, platform.secret) as go:
        there = {"BosBucket": BUCKET, "BosObject": "a/hello.zip"}
        made = go_sdk.create(go, "from-bos", Code={"ZipFile": "", **there})
        assert made["CodeSha256"] == digest(HELLO)
        wanted = {"BosBucket": BUCKET, "BosObject": "other.zip"}
        changed = go("UpdateFunctionCode", {"FunctionName": "from-bos", "Publish": True, **wanted})
        assert (changed["CodeSha256"], changed["Version"]) == (digest(OTHER), "1")
        missing = {"FunctionName": "from-bos", "BosBucket": BUCKET, "BosObject": "none"}
        assert go_sdk.refused(go, "UpdateFunctionCode", missing) == INVALID
        nothing = {"FunctionName": "from-bos"}
        assert go_sdk.refused(go, "UpdateFunctionCode", nothing) == INVALID
        layer = go("PublishLayer", {"LayerName": "from-bos", "Content": wanted, "CompatibleRuntimes": ["python3.11"]})
        assert layer["Content"]["CodeSha256"] == digest(OTHER)
        go("DeleteLayer", {"LayerName": "from-bos"})
        go("DeleteFunction", {"FunctionName": "from-bos"})


def test_the_python_client_is_told_what_is_missing(cfc: Any) -> None:
    """It has no argument for a bucket: what it sends is its ``Code``, here with these fields in it."""
    body = {"FunctionName": "from-bos-python", "Handler": "echo", "Runtime": "python3.11"}
    for code, status in (({"BosBucket": BUCKET, "BosObject": "other.zip"}, 201), ({"BosBucket": BUCKET}, 400)):
        send = lambda code=code: cfc._send_request(b"POST", "/functions", body=json.dumps({**body, "Code": code}))  # noqa: E731
        if status == 201:
            assert send().CodeSha256 == digest(OTHER)
            cfc.delete_function("from-bos-python")
        else:
            with pytest.raises(BceHttpClientError) as caught:
                send()
            assert caught.value.last_error.status_code == status


def test_packages_that_are_held_are_bounded() -> None:
    room, one, two = PackageRoom(), TenantId("1"), TenantId("2")
    with mock.patch.multiple(code_source, ROOM_BYTES=10, TENANT_BYTES=6), room.taken(one, 6):
        with pytest.raises(ThrottledError), room.taken(one, 1):
            pass
        with room.taken(two, 4), pytest.raises(ThrottledError), room.taken(two, 1):
            pass
        with room.taken(two, 4):
            pass
    with mock.patch.multiple(code_source, ROOM_BYTES=6, TENANT_BYTES=6), room.taken(one, 6):
        pass
