"""Stock boto3: every call that is offered, and each refusal by AWS's own name."""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.client
import io
import json
import threading
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
from botocore.crt import auth
from botocore.exceptions import ClientError
from tests.parity.conftest import HELLO, ROLE, Platform, zipped


def create(aws: Any, name: str, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "Runtime": "python3.11",
        "Handler": "echo",
        "Code": {"ZipFile": HELLO},
    }
    return aws.create_function(FunctionName=name, Role=ROLE, **{**options, **changes})


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[str, int, str]:
    """Return the code, status and message of the refusal."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **options)
    response = caught.value.response
    assert response["ResponseMetadata"]["RequestId"]
    return (
        response["Error"]["Code"],
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Message"],
    )


def test_configuration_is_as_sent(aws: Any, function: str, platform: Platform) -> None:
    aws.get_waiter("function_active_v2").wait(FunctionName=function)
    found = aws.get_function(FunctionName=function)
    configuration = found["Configuration"]
    assert configuration["FunctionArn"] == f"arn:aws:lambda:eu-central-1:{platform.tenant}:function:{function}"
    assert configuration["CodeSha256"] == base64.b64encode(hashlib.sha256(HELLO).digest()).decode()
    assert configuration["CodeSize"] == len(HELLO)
    assert (configuration["Version"], configuration["MemorySize"], configuration["Timeout"]) == (
        "$LATEST",
        128,
        3,
    )
    assert found["Tags"] == {"a": "b"}
    with urllib.request.urlopen(found["Code"]["Location"]) as answer:
        assert answer.read() == HELLO
    assert zipfile.ZipFile(io.BytesIO(HELLO)).testzip() is None


def test_a_forged_download_is_refused(aws: Any, function: str, platform: Platform) -> None:
    location = aws.get_function(FunctionName=function)["Code"]["Location"]
    for forged in (
        location + "0",
        location.replace("expires=", "expires=9"),
        location.partition("?")[0],
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(forged)
        caught.value.close()
        assert caught.value.code == 403


def test_names_in_every_form(aws: Any, function: str, platform: Platform) -> None:
    arn = f"arn:aws:lambda:eu-central-1:{platform.tenant}:function:{function}"
    for name in (
        function,
        arn,
        f"{platform.tenant}:function:{function}",
        f"{function}:$LATEST",
        f"{arn}:$LATEST",
    ):
        assert aws.get_function_configuration(FunctionName=name)["FunctionName"] == function
        assert aws.invoke(FunctionName=name, Payload=b"1")["Payload"].read() == b"1"
    assert refused(aws.get_function, FunctionName=f"{function}:7")[:2] == (
        "ResourceNotFoundException",
        404,
    )
    stranger = arn.replace(platform.tenant, "999999999999")
    assert refused(aws.get_function, FunctionName=stranger)[0] == "ResourceNotFoundException"


def test_update_publish_list_delete(aws: Any, function: str) -> None:
    revision = aws.get_function_configuration(FunctionName=function)["RevisionId"]
    updated = aws.update_function_configuration(
        FunctionName=function,
        MemorySize=256,
        Timeout=9,
        Description="d",
        Environment={"Variables": {"COLOUR": "blue"}},
        RevisionId=revision,
    )
    assert updated["Environment"] == {"Variables": {"COLOUR": "blue"}}
    aws.get_waiter("function_updated_v2").wait(FunctionName=function)
    code, status, _ = refused(aws.update_function_configuration, FunctionName=function, Timeout=4, RevisionId=revision)
    assert (code, status) == ("PreconditionFailedException", 412)

    first = aws.publish_version(FunctionName=function, Description="one")
    assert (first["Version"], first["Description"], first["MemorySize"]) == ("1", "one", 256)
    assert first["FunctionArn"].endswith(f"{function}:1")
    assert aws.publish_version(FunctionName=function)["Version"] == "1"
    other = zipped({"app.py": b"x = 1\n"})
    assert aws.update_function_code(FunctionName=function, ZipFile=other, Publish=True)["Version"] == "2"
    first_again = aws.get_function_configuration(FunctionName=function, Qualifier="1")
    assert first_again["CodeSha256"] == first["CodeSha256"]
    assert refused(aws.publish_version, FunctionName=function, CodeSha256="x")[0] == "InvalidParameterValueException"
    pages = aws.get_paginator("list_versions_by_function").paginate(
        FunctionName=function, PaginationConfig={"PageSize": 2}
    )
    assert [item["Version"] for page in pages for item in page["Versions"]] == ["$LATEST", "1", "2"]
    answer = aws.invoke(FunctionName=function, Qualifier="1", Payload=b"{}")
    assert answer["ExecutedVersion"] == "1"

    aws.delete_function(FunctionName=function, Qualifier="1")
    assert refused(aws.get_function, FunctionName=function, Qualifier="1")[0] == "ResourceNotFoundException"
    assert refused(aws.delete_function, FunctionName=function, Qualifier="$LATEST")[1] == 400
    aws.delete_function(FunctionName=function)
    assert refused(aws.invoke, FunctionName=function)[0] == "ResourceNotFoundException"


def test_dry_run_changes_nothing(aws: Any, function: str) -> None:
    other = zipped({"app.py": b"y = 1\n"})
    tried = aws.update_function_code(FunctionName=function, ZipFile=other, DryRun=True)
    found = aws.get_function_configuration(FunctionName=function)
    assert tried["CodeSha256"] != found["CodeSha256"]


def test_list_is_paged_and_scoped(platform: Platform, aws: Any) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        create(aws, name)
    pages = aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    listed = [item["FunctionName"] for page in pages for item in page["Functions"]]
    assert [name for name in listed if name.startswith("page-")] == names
    other = platform.aws(platform.other_access_key, platform.other_secret)
    assert other.list_functions()["Functions"] == []
    assert refused(other.get_function, FunctionName="page-0")[0] == "ResourceNotFoundException"
    assert refused(other.invoke, FunctionName="page-0")[0] == "ResourceNotFoundException"
    for name in names:
        aws.delete_function(FunctionName=name)


def test_invoke(aws: Any, function: str) -> None:
    answer = aws.invoke(FunctionName=function, Payload=b'{"a": "\\u00e4"}', LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert json.loads(answer["Payload"].read()) == {"a": "ä"}
    assert "START RequestId" in base64.b64decode(answer["LogResult"]).decode()
    assert "FunctionError" not in answer
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert "; why=" in headers["x-alcove-start"]
    assert headers["x-alcove-sandbox"]
    assert all("=" in phase for phase in headers["x-alcove-phases"].split(",") if phase)
    assert aws.invoke(FunctionName=function, InvocationType="Event", Payload=b"{}")["StatusCode"] == 202
    assert aws.invoke(FunctionName=function, InvocationType="DryRun")["StatusCode"] == 204


@pytest.mark.parametrize("handler", ["raise", "exit", "initfail"])
def test_function_errors_are_answers(aws: Any, function: str, handler: str) -> None:
    aws.update_function_configuration(FunctionName=function, Handler=handler)
    answer = aws.invoke(FunctionName=function, Payload=b"{}")
    assert answer["StatusCode"] == 200
    assert answer["FunctionError"] == "Unhandled"
    assert "errorMessage" in json.loads(answer["Payload"].read())


def test_event_and_payload_limits(aws: Any, function: str) -> None:
    largest = b'"' + b"x" * (6 * 1024 * 1024 - 2) + b'"'
    assert aws.invoke(FunctionName=function, Payload=largest)["Payload"].read() == largest
    for payload in (largest + b" ", b" " * (9 << 20)):
        code, status, _ = refused(aws.invoke, FunctionName=function, Payload=payload)
        assert (code, status) == ("RequestTooLargeException", 413)
    code, status, _ = refused(aws.invoke, FunctionName=function, InvocationType="Event", Payload=b"1" * 300_000)
    assert status == 413
    code, status, _ = refused(aws.invoke, FunctionName=function, Payload=b"{not json")
    assert (code, status) == ("InvalidRequestContentException", 400)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Runtime": "cobol85"}, "cobol85"),
        ({"Runtime": "python3.12"}, "python3.11"),
        ({"MemorySize": 3009}, "MemorySize"),
        ({"Timeout": 901}, "Timeout"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "reserved"),
        ({"Environment": {"Variables": {"BIG": "x" * 5000}}}, "4096"),
        ({"Description": "x" * 257}, "Description"),
        ({"Tags": {"alcove:isolation": "process"}}, "not allowed"),
        ({"Tags": {"alcove:isolation": "moat"}}, "unknown"),
        ({"Code": {"ZipFile": b"not a zip"}}, "unzip"),
        ({"Code": {"ZipFile": HELLO[:-20]}}, "unzip"),
        ({"Code": {"ZipFile": zipped({"../x": b""})}}, "leaves"),
        ({"Code": {"ZipFile": zipped({"/x": b""})}}, "absolute"),
        ({"Code": {"ZipFile": HELLO.replace(b"return event", b"return evenT")}}, "CRC"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "k"}}, "NoSuchBucket"),
        ({"PackageType": "Image", "Code": {"ImageUri": "x"}}, "PackageType"),
    ],
)
def test_bad_functions(aws: Any, changes: dict[str, Any], message: str) -> None:
    code, status, text = refused(create, aws, "bad", **changes)
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert message in text
    assert refused(aws.get_function, FunctionName="bad")[0] == "ResourceNotFoundException"


def test_conflict_and_body_limit(aws: Any, function: str) -> None:
    assert refused(create, aws, function)[:2] == ("ResourceConflictException", 409)
    code, status, _ = refused(create, aws, "large", Code={"ZipFile": bytes(51 << 20)})
    assert (code, status) == ("RequestEntityTooLargeException", 413)
    code, status, _ = refused(create, aws, "larger", Code={"ZipFile": bytes(60 << 20)})
    assert (code, status) == ("RequestEntityTooLargeException", 413)


def test_signatures(platform: Platform, aws: Any, function: str) -> None:
    wrong = platform.aws(secret="wrong")
    assert refused(wrong.list_functions)[:2] == ("InvalidSignatureException", 403)
    unknown = platform.aws(access_key="AKALNOBODY")
    assert refused(unknown.list_functions)[:2] == ("UnrecognizedClientException", 403)
    stale = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=6)
    with mock.patch.object(auth, "get_current_datetime", return_value=stale):
        code, status, message = refused(platform.aws().list_functions)
    assert (code, status) == ("InvalidSignatureException", 403)
    assert "expired" in message
    connection = http.client.HTTPConnection("127.0.0.1", platform.port)
    connection.request("GET", "/2015-03-31/functions")
    answer = connection.getresponse()
    assert answer.status == 403
    assert answer.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    assert set(json.loads(answer.read())) >= {"Type", "Message"}
    connection.close()


def test_a_presigned_call(platform: Platform, function: str) -> None:
    url = platform.aws().generate_presigned_url("get_function", {"FunctionName": function}, ExpiresIn=60)
    with urllib.request.urlopen(url) as answer:
        assert json.loads(answer.read())["Configuration"]["FunctionName"] == function


def test_tags_and_account(aws: Any, function: str) -> None:
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    aws.tag_resource(Resource=arn, Tags={"c": "d"})
    aws.untag_resource(Resource=arn, TagKeys=["a"])
    assert aws.list_tags(Resource=arn)["Tags"] == {"c": "d"}
    settings = aws.get_account_settings()
    assert settings["AccountUsage"]["FunctionCount"] >= 1
    assert settings["AccountLimit"]["ConcurrentExecutions"] > 0


def test_tags_are_a_functions_alone(aws: Any, function: str, platform: Platform) -> None:
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    other = platform.aws(platform.other_access_key, platform.other_secret)
    for resource in (function, f"{arn}:$LATEST", arn.replace(":function:", ":layer:")):
        assert refused(aws.list_tags, Resource=resource)[:2] == ("InvalidParameterValueException", 400)
        assert refused(aws.tag_resource, Resource=resource, Tags={"a": "b"})[1] == 400
    for tags in ({}, {"aws:x": "y"}, {"x" * 129: "y"}, {"x": "y" * 257}, {str(n): "" for n in range(51)}):
        assert refused(aws.tag_resource, Resource=arn, Tags=tags)[:2] == ("InvalidParameterValueException", 400)
    aws.tag_resource(Resource=arn, Tags={str(number): "" for number in range(49)})
    assert refused(aws.tag_resource, Resource=arn, Tags={"one": "too many"})[1] == 400
    assert len(aws.list_tags(Resource=arn)["Tags"]) == 50
    aws.untag_resource(Resource=arn, TagKeys=[*map(str, range(49)), "never there"])
    assert aws.get_function(FunctionName=function)["Tags"] == {"a": "b"}
    assert refused(other.list_tags, Resource=arn)[:2] == ("ResourceNotFoundException", 404)
    assert refused(other.tag_resource, Resource=arn, Tags={"a": "c"})[1] == 404
    assert refused(other.untag_resource, Resource=arn, TagKeys=["a"])[1] == 404


def test_every_version_of_every_function_is_listed(aws: Any, function: str) -> None:
    aws.publish_version(FunctionName=function)
    pages = aws.get_paginator("list_functions").paginate(FunctionVersion="ALL", PaginationConfig={"PageSize": 1})
    listed = [(one["FunctionName"], one["Version"]) for page in pages for one in page["Functions"]]
    assert [version for name, version in listed if name == function] == ["$LATEST", "1"]
    assert len(listed) == len(set(listed))


def test_updates_lose_no_calls(aws: Any, function: str) -> None:
    """Calls in flight end as they began, those that come later find what is new; no instance of the old stays."""
    aws.update_function_configuration(FunctionName=function, Handler="sleep", Timeout=9)
    stop = threading.Event()

    def call() -> list[tuple[int, bool]]:
        done = []
        while not stop.is_set():
            answer = aws.invoke(FunctionName=function, Payload=b"0.05")
            done.append((answer["StatusCode"], "FunctionError" in answer))
        return done

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        for number in range(8):
            aws.update_function_configuration(FunctionName=function, MemorySize=128 + number)
            aws.update_function_code(FunctionName=function, ZipFile=zipped({"app.py": b"#%d" % number}))
        stop.set()
        done = [result for caller in callers for result in caller.result()]
    assert len(done) >= 16
    assert set(done) == {(200, False)}
    aws.update_function_configuration(FunctionName=function, Handler="raise")
    assert "FunctionError" in aws.invoke(FunctionName=function, Payload=b"0")


def test_unknown_paths_and_bodies(platform: Platform, aws: Any) -> None:
    assert refused(aws.get_function, FunctionName="no-such")[:2] == (
        "ResourceNotFoundException",
        404,
    )
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", platform.port)
    connection.request("GET", "/2099-01-01/functions")
    unknown = connection.getresponse()
    assert (unknown.status, unknown.headers["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")
    unknown.read()
    connection.request("NONSENSE", "/../../etc/passwd")
    assert connection.getresponse().status in (400, 403, 404)
    connection.close()
    assert time.monotonic() - started < 5


def test_ephemeral_storage_and_logging_are_as_sent(aws: Any, function: str) -> None:
    found = aws.get_function_configuration(FunctionName=function)
    assert found["EphemeralStorage"] == {"Size": 512}
    assert found["LoggingConfig"]["LogFormat"] == "Text"
    changed = aws.update_function_configuration(
        FunctionName=function, EphemeralStorage={"Size": 10_240}, LoggingConfig={"LogFormat": "JSON"}
    )
    assert changed["EphemeralStorage"] == {"Size": 10_240}
    assert changed["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "INFO",
        "LogGroup": f"/alcove/{function}",
    }
    version = aws.publish_version(FunctionName=function)["Version"]
    published = aws.get_function_configuration(FunctionName=function, Qualifier=version)
    assert published["EphemeralStorage"] == {"Size": 10_240}
    too_large = refused(aws.update_function_configuration, FunctionName=function, EphemeralStorage={"Size": 10_241})
    assert too_large[:2] == ("InvalidParameterValueException", 400)
