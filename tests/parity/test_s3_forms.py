"""Forms that upload to a bucket, as boto3 signs them (``generate_presigned_post``) and a stock client sends them."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import Element, fromstring

import pytest
import requests
from tests.parity.conftest import Platform
from tests.parity.test_function_keys import key as key  # a fixture

BODY = bytes(range(256)) * 3000
SIGNATURES = ("s3", "s3v4")


@pytest.fixture(scope="module")
def s3(platform: Platform) -> Any:
    return platform.s3()


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    name = f"forms-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield name
    for one in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=one["Key"])
    s3.delete_bucket(Bucket=name)


def signed(signer: Any, bucket: str, key: str, *conditions: Any, seconds: int = 60, **fields: str) -> dict[str, Any]:
    """``fields`` have ``_`` for ``-``, but for those of S3 that have it themselves; each has its condition."""
    fields = {one if one.startswith("success_") else one.replace("_", "-"): value for one, value in fields.items()}
    named = [{one: value} for one, value in fields.items()]
    made: dict[str, Any] = signer.generate_presigned_post(
        bucket, key, Fields=fields, Conditions=[*named, *conditions], ExpiresIn=seconds
    )
    return made


def send(form: dict[str, Any], body: bytes = BODY, *, name: str = "a file.bin", **more: str) -> requests.Response:
    fields = {**form["fields"], **{one.replace("_", "-"): value for one, value in more.items()}}
    return requests.post(form["url"], data=fields, files={"file": (name, body)}, allow_redirects=False, timeout=30)


def refusal(answer: requests.Response) -> tuple[int, str, str]:
    found: Element = fromstring(answer.content)
    return answer.status_code, found.findtext("Code", ""), found.findtext("Message", "")


def keys(s3: Any, bucket: str) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.parametrize("version", SIGNATURES)
def test_a_form_makes_an_object(platform: Platform, s3: Any, bucket: str, version: str) -> None:
    signer = platform.s3(signature_version=version)
    form = signed(
        signer,
        bucket,
        "by form/${filename}",
        Content_Type="image/x-ü",
        x_amz_meta_who="me",
        Content_Disposition="attachment",
        acl="private",
    )
    assert ("x-amz-signature" in form["fields"]) is (version == "s3v4")
    answer = send(form, name="ü & b.bin", x_ignore_me="1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["ETag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="by form/ü & b.bin", ChecksumMode="ENABLED")
    assert got["Body"].read() == BODY
    assert (got["Metadata"], got["ContentDisposition"]) == ({"who": "me"}, "attachment")
    assert got["ContentType"].encode("latin-1").decode() == "image/x-ü"
    assert answer.headers["x-amz-checksum-crc64nvme"] == got["ChecksumCRC64NVME"]


def test_what_is_signed_by_default(platform: Platform, s3: Any, bucket: str) -> None:
    """boto3 chooses the older signature for us-east-1 and the newer one elsewhere."""
    for region in ("us-east-1", "eu-central-1"):
        assert send(signed(platform.s3(region=region), bucket, region)).status_code == 204
    assert keys(s3, bucket) == ["eu-central-1", "us-east-1"]


def test_answers(s3: Any, bucket: str) -> None:
    for status in ("200", "204", "404"):
        answer = send(signed(s3, bucket, "k", success_action_status=status))
        assert (answer.status_code, answer.content) == (200 if status == "200" else 204, b"")
    answer = send(signed(s3, bucket, "a/b ü", success_action_status="201"))
    found = fromstring(answer.content)
    assert (answer.status_code, found.tag) == (201, "PostResponse")
    shown = {one.tag: one.text for one in found}
    assert shown == {
        "Location": f"{s3.meta.endpoint_url}/{bucket}/a%2Fb%20%C3%BC",
        "Bucket": bucket,
        "Key": "a/b ü",
        "ETag": answer.headers["ETag"],
    }
    assert answer.headers["Location"] == shown["Location"]
    for target in ("http://example.com/done?a=b#there", "https://example.com"):
        answer = send(signed(s3, bucket, "a b", success_action_redirect=target, success_action_status="201"))
        assert (answer.status_code, answer.content) == (303, b"")
        to = urlsplit(answer.headers["Location"])
        assert (to.scheme, to.netloc, to.path, to.fragment) == (*urlsplit(target)[:3], urlsplit(target).fragment)
        etag = f'"{hashlib.md5(BODY).hexdigest()}"'
        told = {"bucket": [bucket], "key": ["a b"], "etag": [etag]}
        assert parse_qs(to.query) == {**parse_qs(urlsplit(target).query), **told}
    for target in ("/relative", "javascript:alert(1)", "http://[", "http://a/\r\nSet-Cookie: b"):
        assert send(signed(s3, bucket, "k", success_action_redirect=target)).status_code == 204


def test_a_host_that_names_the_bucket(platform: Platform, s3: Any, bucket: str) -> None:
    form = signed(s3, bucket, "a/b")
    host = {"Host": f"{bucket}.s3.localhost:{platform.s3_port}"}
    answer = requests.post(
        f"{platform.s3_endpoint()}/", data=form["fields"], files={"file": b"x"}, headers=host, timeout=30
    )
    assert (answer.status_code, answer.headers["Location"]) == (204, f"http://{host['Host']}/a%2Fb")
    assert keys(s3, bucket) == ["a/b"]


def test_sizes(s3: Any, bucket: str) -> None:
    form = signed(s3, bucket, "k", ["content-length-range", 5, 10])
    for size in (0, 4):
        assert refusal(send(form, b"x" * size))[:2] == (400, "EntityTooSmall")
    for size in (11, 3 << 20):
        assert refusal(send(form, b"x" * size))[:2] == (400, "EntityTooLarge")
    assert keys(s3, bucket) == []
    for size in (5, 10):
        assert send(form, b"x" * size).status_code == 204
        assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


@pytest.mark.parametrize("version", SIGNATURES)
def test_what_the_policy_does_not_say_is_refused(platform: Platform, s3: Any, bucket: str, version: str) -> None:
    signer = platform.s3(signature_version=version)
    form = signed(signer, bucket, "mine/${filename}", ["starts-with", "$Content-Type", "image/"], x_amz_meta_a="b")
    failed = "Invalid according to Policy: "
    for changed, wanted in (
        ({"Content_Type": "text/html"}, f'{failed}Policy Condition failed: ["starts-with", "$content-type", "image/"]'),
        ({}, f'{failed}Policy Condition failed: ["starts-with", "$content-type", "image/"]'),
        ({"Content_Type": "image/png", "key": "other"}, f'{failed}Policy Condition failed: ["starts-with", "$key", '),
        ({"Content_Type": "image/png", "x_amz_meta_a": "c"}, f'{failed}Policy Condition failed: ["eq", "$x-amz-meta-a'),
        ({"Content_Type": "image/png", "x_amz_meta_c": "d"}, f"{failed}Extra input fields: x-amz-meta-c"),
        ({"Content_Type": "image/png", "acl": "private"}, f"{failed}Extra input fields: acl"),
    ):
        status, code, message = refusal(send(form, **changed))
        assert (status, code, message.startswith(wanted)) == (403, "AccessDenied", True), message
    assert keys(s3, bucket) == []
    assert send(form, Content_Type="image/png").status_code == 204


@pytest.mark.parametrize("version", SIGNATURES)
def test_a_policy_that_was_changed_is_refused(platform: Platform, s3: Any, bucket: str, version: str) -> None:
    form = signed(platform.s3(signature_version=version), bucket, "k")
    document = json.loads(base64.b64decode(form["fields"]["policy"]))
    document["conditions"] = [["starts-with", f"${name}", ""] for name in (*form["fields"], "bucket")]
    other = base64.b64encode(json.dumps(document).encode()).decode()
    assert refusal(send(form, policy=other, key="stolen"))[:2] == (403, "SignatureDoesNotMatch")
    name = "x-amz-signature" if version == "s3v4" else "signature"
    for wrong in ("", "0" * 64, form["fields"][name][::-1]):
        form["fields"][name] = wrong
        assert refusal(send(form))[:2] == (403, "SignatureDoesNotMatch")
    del form["fields"][name]
    assert refusal(send(form))[:2] == (400, "InvalidArgument")
    nobody = {"url": form["url"], "fields": {"key": "k", "policy": form["fields"]["policy"]}}
    assert refusal(send(nobody))[:2] == (403, "AccessDenied")
    wrong_key = platform.s3("AKALNOBODYNOBODYNOBO", "x", signature_version=version)
    assert refusal(send(signed(wrong_key, bucket, "k")))[:2] == (403, "InvalidAccessKeyId")
    assert keys(s3, bucket) == []


@pytest.mark.parametrize("version", SIGNATURES)
def test_a_policy_ends(platform: Platform, s3: Any, bucket: str, version: str) -> None:
    form = signed(platform.s3(signature_version=version), bucket, "k", seconds=-1)
    assert refusal(send(form)) == (403, "AccessDenied", "Invalid according to Policy: Policy expired.")
    assert keys(s3, bucket) == []


def test_a_form_is_for_the_signers_bucket_of_that_name(platform: Platform, s3: Any, bucket: str) -> None:
    other = platform.s3(platform.other_access_key, platform.other_secret)
    assert refusal(send(signed(other, bucket, "k")))[:2] == (404, "NoSuchBucket")
    mine = signed(s3, bucket, "k")
    mine["url"] += "-2"
    status, code, message = refusal(send(mine))
    assert (status, code) == (403, "AccessDenied")
    assert "$bucket" in message
    assert refusal(send(signed(s3, bucket, "k"), bucket="another"))[:2] == (400, "InvalidArgument")
    assert keys(s3, bucket) == []
    assert send(signed(s3, bucket, "named"), bucket=bucket).status_code == 204, "as the SDK for JavaScript does"
    other.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert send(signed(other, bucket, "k")).status_code == 204
    assert (keys(s3, bucket), keys(other, bucket)) == (["named"], ["k"])
    other.delete_object(Bucket=bucket, Key="k")
    other.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("version", SIGNATURES)
def test_a_functions_key_signs_for_its_tenant(
    platform: Platform, s3: Any, aws: Any, bucket: str, function: str, key: tuple[str, str], version: str
) -> None:
    signer = platform.s3(*key, signature_version=version)
    assert send(signed(signer, bucket, "k")).status_code == 204
    assert keys(s3, bucket) == ["k"]
    forged = platform.s3(key[0], key[1][::-1], signature_version=version)
    assert refusal(send(signed(forged, bucket, "k")))[:2] == (403, "SignatureDoesNotMatch")
    aws.delete_function(FunctionName=function)
    assert refusal(send(signed(signer, bucket, "k")))[:2] == (403, "InvalidAccessKeyId")


def test_checksums_hold(s3: Any, bucket: str) -> None:
    right = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert refusal(send(signed(s3, bucket, "k", x_amz_checksum_sha256=wrong)))[:2] == (400, "BadDigest")
    md5 = base64.b64encode(hashlib.md5(b"").digest()).decode()
    assert refusal(send(signed(s3, bucket, "k", Content_MD5=md5)))[:2] == (400, "BadDigest")
    assert keys(s3, bucket) == []
    answer = send(signed(s3, bucket, "k", x_amz_checksum_sha256=right))
    assert (answer.status_code, answer.headers["x-amz-checksum-sha256"]) == (204, right)


def test_what_is_not_offered_is_refused(s3: Any, bucket: str) -> None:
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    for fields in ({"acl": "public-read"}, {"tagging": tags}, {"x_amz_server_side_encryption": "AES256"}):
        assert refusal(send(signed(s3, bucket, "k", **fields)))[:2] == (501, "NotImplemented")
    assert refusal(send(signed(s3, bucket, "k", x_amz_expected_bucket_owner="x")))[:2] == (403, "AccessDenied")
    assert keys(s3, bucket) == []


def test_forms_that_are_none(s3: Any, bucket: str) -> None:
    form = signed(s3, bucket, "k")
    url, fields = form["url"], form["fields"]
    without = {name: value for name, value in fields.items() if name != "key"}
    assert refusal(send({"url": url, "fields": without}))[1] == "InvalidArgument"
    late = requests.post(
        url, files=[("file", ("f", BODY)), *((one, (None, fields[one])) for one in fields)], timeout=30
    )
    assert refusal(late)[:2] == (403, "AccessDenied"), "what comes behind the file is not read"
    nothing = requests.post(url, files={one: (None, fields[one]) for one in fields}, timeout=30)
    assert refusal(nothing)[1] == "MalformedPOSTRequest"
    assert refusal(send(form, x_ignore="x" * 30_000))[:2] == (400, "MaxPostPreDataLengthExceeded")
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    pieces = requests.post(url, data=iter([b"--b\r\n"]), headers=kind, timeout=30)
    assert refusal(pieces)[:2] == (411, "MissingContentLength")
    assert refusal(requests.post(url, data=b"--b", headers=kind, timeout=30))[1] == "MalformedPOSTRequest"
    plain = requests.post(url, data=fields, timeout=30)
    assert plain.status_code == 403
    assert keys(s3, bucket) == []


def test_what_follows_the_file_is_not_read(s3: Any, bucket: str) -> None:
    form = signed(s3, bucket, "k")
    parts = [*((one, (None, value)) for one, value in form["fields"].items()), ("file", ("f", BODY))]
    with requests.Session() as session:
        for _ in range(2):  # on one connection
            answer = session.post(form["url"], files=[*parts, ("submit", (None, "x" * 50_000))], timeout=30)
            assert answer.status_code == 204
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
