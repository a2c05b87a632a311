"""Function URLs: configured by stock boto3, called as any HTTP client does, by host and by path."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from click.testing import CliRunner
from tests.parity.conftest import HELLO, ROLE, Platform

from alcove.cli.app import root


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


def call(platform: Platform, url: str, method: str = "GET", path: str = "/", **options: Any) -> Answer:
    """Call by host name, as a client that resolves ``*.localhost`` does."""
    host = urlsplit(url).netloc
    headers = {"Host": host, **options.pop("headers", {})}
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
    try:
        connection.request(method, path, options.pop("body", None), headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def signed(url: str, method: str, body: str, access_key: str, secret: str) -> dict[str, str]:
    request = AWSRequest(method, url, data=body)
    SigV4Auth(Credentials(access_key, secret), "lambda", "eu-central-1").add_auth(request)
    return dict(request.headers.items())


def let_everyone_in(aws: Any, name: str, **where: str) -> None:
    """What AWS asks for beside AuthType NONE."""
    aws.add_permission(
        FunctionName=name,
        StatementId="FunctionURLAllowPublicAccess",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
        **where,
    )


@pytest.fixture
def make(aws: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make functions with a URL of their own; return (name, URL)."""
    made = []

    def create(handler: str = "echo", auth: str = "NONE", timeout: int = 3, **options: Any) -> tuple[str, str]:
        name = f"u{abs(hash(request.node.nodeid)) % 10**12}-{len(made)}"
        aws.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=ROLE,
            Handler=handler,
            Code={"ZipFile": HELLO},
            Timeout=timeout,
        )
        made.append(name)
        if auth == "NONE":
            let_everyone_in(aws, name)
        return name, aws.create_function_url_config(FunctionName=name, AuthType=auth, **options)["FunctionUrl"]

    yield create
    for name in made:
        aws.delete_function(FunctionName=name)


def test_the_life_of_a_url(aws: Any, function: str) -> None:
    cors = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 60, "AllowCredentials": True}
    made = aws.create_function_url_config(FunctionName=function, AuthType="AWS_IAM", Cors=cors)
    assert made["AuthType"] == "AWS_IAM"
    assert made["InvokeMode"] == "BUFFERED" if "InvokeMode" in made else True
    assert made["FunctionArn"].endswith(f":function:{function}")
    url_id = urlsplit(made["FunctionUrl"]).netloc.split(".")[0]
    assert len(url_id) == 32
    got = aws.get_function_url_config(FunctionName=function)
    assert got["Cors"]["AllowOrigins"] == ["https://a.example"]
    assert got["Cors"]["MaxAge"] == 60
    changed = aws.update_function_url_config(
        FunctionName=function, AuthType="NONE", InvokeMode="RESPONSE_STREAM", Cors={}
    )
    assert (changed["AuthType"], changed["InvokeMode"], "Cors" in changed) == ("NONE", "RESPONSE_STREAM", False)
    assert changed["FunctionUrl"] == made["FunctionUrl"]
    assert changed["LastModifiedTime"] > changed["CreationTime"]
    aws.publish_version(FunctionName=function)
    other = aws.create_function_url_config(FunctionName=function, AuthType="NONE", Qualifier="1")
    assert other["FunctionArn"].endswith(f":{function}:1")
    first = aws.list_function_url_configs(FunctionName=function, MaxItems=1)
    rest = aws.list_function_url_configs(FunctionName=function, Marker=first["NextMarker"])
    urls = [one["FunctionUrl"] for one in first["FunctionUrlConfigs"] + rest["FunctionUrlConfigs"]]
    assert urls == [made["FunctionUrl"], other["FunctionUrl"]]
    aws.delete_function_url_config(FunctionName=function)
    for gone in (aws.get_function_url_config, aws.delete_function_url_config):
        with pytest.raises(aws.exceptions.ResourceNotFoundException):
            gone(FunctionName=function)
    assert aws.get_function_url_config(FunctionName=function, Qualifier="1")["AuthType"] == "NONE"


def test_refusals(aws: Any, platform: Platform, function: str) -> None:
    with pytest.raises(aws.exceptions.InvalidParameterValueException):
        aws.create_function_url_config(FunctionName=function, AuthType="MAYBE")
    for cors in ({"AllowMethods": ["TRACE"]}, {"AllowHeaders": ["a b"]}, {"AllowOrigins": ["http://x\r\ny"]}):
        with pytest.raises(aws.exceptions.InvalidParameterValueException):
            aws.create_function_url_config(FunctionName=function, AuthType="NONE", Cors=cors)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.create_function_url_config(FunctionName="nobody", AuthType="NONE")
    aws.create_function_url_config(FunctionName=function, AuthType="NONE")
    with pytest.raises(aws.exceptions.ResourceConflictException):
        aws.create_function_url_config(FunctionName=function, AuthType="NONE")
    other = platform.aws(platform.other_access_key, platform.other_secret)
    with pytest.raises(other.exceptions.ResourceNotFoundException):
        other.get_function_url_config(FunctionName=function)


def test_the_event(platform: Platform, make: Any) -> None:
    name, url = make()
    answer = call(
        platform,
        url,
        "POST",
        "/a%20b/c?x=1&x=2&y=%C3%A9&z",
        body='{"n": 1}',
        headers={"Content-Type": "application/json", "Cookie": "a=1; b=2", "X-Odd": "o", "User-Agent": "me"},
    )
    event = answer.json()
    host = urlsplit(url).netloc.split(":")[0]
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a%20b/c")
    assert event["rawQueryString"] == "x=1&x=2&y=%C3%A9&z"
    assert event["queryStringParameters"] == {"x": "1,2", "y": "é", "z": ""}
    assert event["cookies"] == ["a=1", "b=2"]
    assert "cookie" not in event["headers"]
    assert event["headers"]["x-odd"] == "o"
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert (event["body"], event["isBase64Encoded"]) == ('{"n": 1}', False)
    context = event["requestContext"]
    assert (context["domainName"], context["domainPrefix"]) == (host, host.split(".")[0])
    assert context["apiId"] == host.split(".")[0]
    assert context["http"] == {
        "method": "POST",
        "path": "/a%20b/c",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "me",
    }
    assert context["accountId"] == "anonymous"
    assert "authorizer" not in context
    assert context["requestId"] == answer.headers["x-amzn-requestid"]
    binary = call(platform, url, "PUT", body=b"\xff\x00", headers={"Content-Type": "image/png"}).json()
    assert (base64.b64decode(binary["body"]), binary["isBase64Encoded"]) == (b"\xff\x00", True)
    broken = call(platform, url, "PUT", body=b"\xff", headers={"Content-Type": "text/plain"}).json()
    assert broken["isBase64Encoded"] is True
    assert "body" not in call(platform, url).json()
    assert name


def test_by_path_where_names_do_not_resolve(platform: Platform, make: Any) -> None:
    _, url = make()
    url_id = urlsplit(url).netloc.split(".")[0]
    for path, seen in ((f"/urls/{url_id}/x/y?q=1", "/x/y"), (f"/urls/{url_id}", "/")):
        event = call(platform, f"http://127.0.0.1:{platform.port}", path=path).json()
        assert event["rawPath"] == seen
        assert event["requestContext"]["domainPrefix"] == url_id
    for wrong in ("/urls/", "/urls/x/", f"/urls/{'a' * 32}/", f"/urls/{url_id}%00/"):
        answer = call(platform, f"http://127.0.0.1:{platform.port}", path=wrong)
        assert (answer.status, answer.json()) == (404, {"message": "Not Found"})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_every_method(platform: Platform, make: Any, method: str) -> None:
    _, url = make()
    assert call(platform, url, method).json()["requestContext"]["http"]["method"] == method


def test_head_has_a_length_and_no_body(platform: Platform, make: Any) -> None:
    answer = call(platform, make()[1], "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


def test_the_answer(platform: Platform, make: Any) -> None:
    _, url = make("answer")

    def says(document: Any) -> Answer:
        body = document if isinstance(document, str) else json.dumps(document)
        return call(platform, url, "POST", body=body, headers={"Content-Type": "text/plain"})

    answer = says(
        {
            "statusCode": 201,
            "headers": {"Content-Type": "text/html", "X-N": 7, "Connection": "upgrade", "Date": "never"},
            "cookies": ["a=1; Secure", "b=2"],
            "body": "<p>é",
        }
    )
    assert (answer.status, answer.body.decode()) == (201, "<p>é")
    assert answer.headers.get_all("set-cookie") == ["a=1; Secure", "b=2"]
    assert (answer.headers["content-type"], answer.headers["x-n"]) == ("text/html", "7")
    assert answer.headers["x-amzn-remapped-connection"] == "upgrade"
    assert answer.headers["date"] != "never"
    encoded = says({"statusCode": "200", "body": base64.b64encode(b"\xff\0").decode(), "isBase64Encoded": True})
    assert encoded.body == b"\xff\0"
    assert (says({"statusCode": 204}).status, says({"statusCode": 304}).body) == (204, b"")
    for inferred in ('"Hello, world!"', "[1]", "null", '{"a": 1}', '"statusCode"'):
        answer = says(inferred)
        assert (answer.status, answer.body.decode()) == (200, inferred)
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "document",
    [
        {"statusCode": 200, "headers": {"X-A": "b\r\nSet-Cookie: stolen=1"}},
        {"statusCode": 200, "headers": {"X-A\r\nSet-Cookie": "stolen=1"}},
        {"statusCode": 200, "headers": {"X-A": "b\n\n<p>"}},
        {"statusCode": 200, "headers": {"": "b"}},
        {"statusCode": 200, "headers": {"X-A": "\0"}},
        {"statusCode": 200, "headers": {"X-A": "€"}},
        {"statusCode": 200, "headers": {"X-A": ["b"]}},
        {"statusCode": 200, "headers": ["b"]},
        {"statusCode": 200, "headers": {"X-A": "b" * 11_000}},
        {"statusCode": 200, "headers": {f"X-{n}": "b" for n in range(200)}},
        {"statusCode": 200, "cookies": ["a=1\r\nX-B: c"]},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "body": "\ud800"},
        {"statusCode": 200, "body": "%%", "isBase64Encoded": True},
        {"statusCode": 101},
        {"statusCode": 1000},
        {"statusCode": True},
        {"statusCode": None},
        {"statusCode": "200\r\n"},
    ],
)
def test_what_is_no_answer_is_a_502(platform: Platform, make: Any, document: Any) -> None:
    _, url = make("answer")
    headers = {"Content-Type": "application/json"}
    answer = call(platform, url, "POST", body=json.dumps(document), headers=headers)
    assert (answer.status, answer.json()) == (502, {"message": "Internal Server Error"})
    assert "stolen" not in str(answer.headers)


def test_errors_and_time_outs(platform: Platform, make: Any) -> None:
    assert call(platform, make("raise")[1]).status == 502
    assert call(platform, make("exit")[1]).status == 502
    assert call(platform, make("initfail")[1]).status == 502
    slow = call(platform, make("hang", timeout=1)[1])
    assert (slow.status, slow.json()) == (504, {"message": "Endpoint request timed out"})


def test_a_throttled_function_is_a_429(aws: Any, platform: Platform, make: Any) -> None:
    for mode in ("BUFFERED", "RESPONSE_STREAM"):
        name, url = make(InvokeMode=mode)
        aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        answer = call(platform, url)
        assert (answer.status, answer.json()) == (429, {"message": "Too Many Requests"})
        with pytest.raises(aws.exceptions.TooManyRequestsException):
            aws.invoke_with_response_stream(FunctionName=name)


def test_bodies_have_a_limit(platform: Platform, make: Any) -> None:
    _, url = make()
    text = {"Content-Type": "text/plain"}
    assert len(call(platform, url, "POST", body="x" * (5 << 20), headers=text).json()["body"]) == 5 << 20
    for size in (6 << 20, 8 << 20):
        assert call(platform, url, "POST", body="x" * size, headers=text).status == 413


def test_signed_urls(platform: Platform, make: Any) -> None:
    _, url = make(auth="AWS_IAM")
    mine, theirs = (platform.access_key, platform.secret), (platform.other_access_key, platform.other_secret)
    headers = signed(f"{url}x?b=2&a=1", "POST", "hello", *mine)
    answer = call(platform, url, "POST", "/x?b=2&a=1", body="hello", headers=headers)
    assert answer.status == 200
    assert answer.json()["requestContext"]["authorizer"]["iam"]["accessKey"] == platform.access_key
    assert answer.json()["requestContext"]["accountId"] == platform.tenant
    assert "authorization" not in answer.json()["headers"]
    for refused in (
        call(platform, url),
        call(platform, url, "POST", "/x?b=2&a=1", body="other", headers=headers),
        call(platform, url, "POST", "/y?b=2&a=1", body="hello", headers=headers),
        call(platform, url, "POST", "/", body="", headers=signed(url, "POST", "", *theirs)),
        call(platform, url, "POST", "/", body="", headers=signed(url, "POST", "", "nobody", "secret")),
    ):
        assert (refused.status, refused.json()) == (403, {"Message": "Forbidden"})


def test_a_policy_lets_another_tenant_call(aws: Any, platform: Platform, make: Any) -> None:
    name, url = make(auth="AWS_IAM")
    other = platform.aws(platform.other_access_key, platform.other_secret)
    # Its account is in what is said of its functions.
    other.create_function(FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO})
    account = other.get_function_configuration(FunctionName=name)["FunctionArn"].split(":")[4]
    other.delete_function(FunctionName=name)

    def status() -> int:
        headers = signed(url, "GET", "", platform.other_access_key, platform.other_secret)
        return call(platform, url, headers=headers).status

    def allow(statement_id: str, action: str, **conditions: str) -> None:
        aws.add_permission(FunctionName=name, StatementId=statement_id, Action=action, Principal=account, **conditions)

    assert status() == 403
    allow("none", "lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE")
    allow("call", "lambda:InvokeFunction")
    assert status() == 403
    allow("iam", "lambda:InvokeFunctionUrl", FunctionUrlAuthType="AWS_IAM")
    assert status() == 200
    aws.remove_permission(FunctionName=name, StatementId="iam")
    assert status() == 403


def test_a_public_url_needs_a_statement(aws: Any, platform: Platform, function: str) -> None:
    url = aws.create_function_url_config(FunctionName=function, AuthType="NONE")["FunctionUrl"]

    def status() -> int:
        return call(platform, url).status

    def allow(statement_id: str, action: str = "lambda:InvokeFunctionUrl", who: str = "*", **conditions: str) -> None:
        aws.add_permission(FunctionName=function, StatementId=statement_id, Action=action, Principal=who, **conditions)

    refused = call(platform, url)
    assert (refused.status, refused.json()) == (403, {"Message": "Forbidden"})
    allow("signed", FunctionUrlAuthType="AWS_IAM")
    allow("one", who="111111111111", FunctionUrlAuthType="NONE")
    allow("call", "lambda:InvokeFunction")
    aws.publish_version(FunctionName=function)
    let_everyone_in(aws, function, Qualifier="1")
    assert status() == 403
    let_everyone_in(aws, function)
    assert status() == 200
    # The other URL has a policy of its own.
    aws.update_function_url_config(FunctionName=function, AuthType="AWS_IAM")
    assert status() == 403
    aws.update_function_url_config(FunctionName=function, AuthType="NONE")
    assert status() == 200
    aws.remove_permission(FunctionName=function, StatementId="FunctionURLAllowPublicAccess")
    assert status() == 403


def test_a_url_of_an_alias_follows_it(aws: Any, platform: Platform, function: str) -> None:
    aws.publish_version(FunctionName=function)
    aws.update_function_configuration(FunctionName=function, Handler="raise")
    aws.publish_version(FunctionName=function)
    aws.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    url = aws.create_function_url_config(FunctionName=function, AuthType="NONE", Qualifier="live")["FunctionUrl"]
    let_everyone_in(aws, function, Qualifier="live")
    assert call(platform, url).status == 200
    aws.update_alias(FunctionName=function, Name="live", FunctionVersion="2")
    assert call(platform, url).status == 502


def test_a_url_goes_with_its_function(aws: Any, platform: Platform, make: Any) -> None:
    """A function that takes the name later is never reached by the old URL."""
    name, url = make()
    assert call(platform, url).status == 200
    aws.delete_function(FunctionName=name)
    assert call(platform, url).status == 404
    aws.create_function(FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO})
    assert call(platform, url).status == 404
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_function_url_config(FunctionName=name)


def test_a_url_of_a_version(aws: Any, platform: Platform, function: str) -> None:
    aws.publish_version(FunctionName=function)
    made = aws.create_function_url_config(FunctionName=function, AuthType="NONE", Qualifier="1")
    let_everyone_in(aws, function, Qualifier="1")
    aws.update_function_configuration(FunctionName=function, Handler="raise")
    assert call(platform, made["FunctionUrl"]).status == 200


def test_cors(platform: Platform, make: Any) -> None:
    rules = {
        "AllowOrigins": ["https://a.example"],
        "AllowMethods": ["GET", "POST"],
        "AllowHeaders": ["x-token"],
        "ExposeHeaders": ["x-amzn-requestid"],
        "MaxAge": 300,
        "AllowCredentials": True,
    }
    _, url = make("answer", auth="AWS_IAM", Cors=rules)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-token"}
    # Browsers sign no preflight.
    allowed = call(platform, url, "OPTIONS", headers={"Origin": "https://a.example", **asked})
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert allowed.headers["access-control-allow-methods"] == "GET,POST"
    assert allowed.headers["access-control-allow-headers"] == "x-token"
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert allowed.headers["access-control-max-age"] == "300"
    other = call(platform, url, "OPTIONS", headers={"Origin": "https://b.example", **asked})
    assert "access-control-allow-origin" not in other.headers
    # Without the question it is a call like any other.
    assert call(platform, url, "OPTIONS", headers={"Origin": "https://a.example"}).status == 403
    _, url = make("answer", Cors={"AllowOrigins": ["*"], "ExposeHeaders": ["x-a"]})
    document = {"statusCode": 200, "headers": {"access-control-allow-origin": "https://evil.example", "Vary": "x-b"}}
    headers = {"Origin": "https://c.example", "Content-Type": "application/json"}
    answer = call(platform, url, "POST", body=json.dumps(document), headers=headers)
    assert answer.headers.get_all("access-control-allow-origin") == ["*"]
    assert answer.headers["access-control-expose-headers"] == "x-a"
    assert answer.headers["vary"] == "x-b, Origin"


def test_the_commands(platform: Platform, aws: Any, function: str) -> None:
    def alcove(*arguments: str) -> str:
        result = CliRunner().invoke(root, ["url", *arguments], env={"ALCOVE_RUN": str(platform.socket.parent)})
        assert result.exit_code == 0, result.output
        said.append(result.stderr)
        return result.stdout

    said: list[str] = []
    url = alcove("add", function, "--origin", "*", "--stream").strip()
    assert "FunctionURLAllowPublicAccess" in said[0]
    assert call(platform, url, headers={"Origin": "https://a.example"}).headers["access-control-allow-origin"] == "*"
    listed = json.loads(alcove("list", function, "--json"))
    assert [(one["FunctionUrl"], one["InvokeMode"]) for one in listed] == [(url, "RESPONSE_STREAM")]
    assert url in alcove("list", function)
    alcove("remove", function)
    assert call(platform, url).status == 404
    # The permission has gone with it: a URL that is made otherwise is not open.
    made = aws.create_function_url_config(FunctionName=function, AuthType="NONE")
    assert call(platform, made["FunctionUrl"]).status == 403
    aws.delete_function_url_config(FunctionName=function)
    url = alcove("add", function, "--auth", "AWS_IAM").strip()
    assert said[-1] == ""
