"""Stock boto3 and the stock Baidu SDK against the real server and real machines."""

from __future__ import annotations

import base64
import gc
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.service.conftest import package
from tests.service.server import Server

Deploy = Callable[..., str]
CLIENT = Path("examples/shared/alcove_client.py").resolve()
ECHO = """
def handler(event, context):
    print('seen', event)
    return {'echo': event, 'version': context.function_version}
"""


def call(aws: Any, name: str, event: Any = None, **options: Any) -> tuple[Any, Any]:
    answer = aws.invoke(FunctionName=name, Payload=json.dumps(event).encode(), **options)
    return json.loads(answer["Payload"].read()), answer


def test_the_life_of_a_function(aws: Any, deploy: Deploy) -> None:
    name = deploy(ECHO)
    aws.get_waiter("function_active_v2").wait(FunctionName=name)
    found = aws.get_function(FunctionName=name)
    assert found["Configuration"]["Runtime"] == "python3.11"
    assert name in {
        item["FunctionName"] for page in aws.get_paginator("list_functions").paginate() for item in page["Functions"]
    }
    document, answer = call(aws, name, {"a": [1, "ä"]}, LogType="Tail")
    assert document == {"echo": {"a": [1, "ä"]}, "version": "$LATEST"}
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "seen {'a': [1, 'ä']}" in base64.b64decode(answer["LogResult"]).decode()
    started = answer["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"]
    assert started.startswith(("mounted; why=", "restored; why="))
    _, again = call(aws, name, 1)
    assert again["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"].startswith("warm; why=")


def test_new_code_serves_the_next_call(aws: Any, deploy: Deploy) -> None:
    name = deploy(ECHO)
    assert call(aws, name, 1)[0]["echo"] == 1
    changed = package({"app.py": "def handler(event, context):\n    return 'changed'\n"})
    aws.update_function_code(FunctionName=name, ZipFile=changed)
    aws.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert call(aws, name, 1)[0] == "changed"


def test_a_published_version_restores_after_its_init(aws: Any, deploy: Deploy) -> None:
    name = deploy("import os, time\nTOKEN = os.urandom(8).hex()\n\ndef handler(event, context):\n    return TOKEN\n")
    version = aws.publish_version(FunctionName=name)["Version"]
    assert version == "1"
    token, answer = call(aws, name, None, Qualifier=version)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert "snapshot" in headers["x-alcove-start"]
    assert answer["ExecutedVersion"] == "1"
    # The init code ran once, when the version was published.
    assert call(aws, name, None, Qualifier=version)[0] == token
    assert call(aws, name)[0] != token


def test_a_version_with_a_layer_is_restored_by_its_alias(aws: Any, deploy: Deploy) -> None:
    layer = {"python/shared.py": "def twice(text):\n    return text * 2\n", "data/word": "a"}
    arn = aws.publish_layer_version(LayerName="shared", Content={"ZipFile": package(layer)})["LayerVersionArn"]
    source = "import shared\nWORD = open('/opt/data/word').read()\n\n"
    source += "def handler(event, context):\n    return [shared.twice(WORD), context.invoked_function_arn]\n"
    name = deploy(source, Layers=[arn])
    version = aws.publish_version(FunctionName=name)["Version"]
    alias = aws.create_alias(FunctionName=name, Name="live", FunctionVersion=version)["AliasArn"]
    aws.delete_layer_version(LayerName="shared", VersionNumber=int(arn.rpartition(":")[2]))
    document, answer = call(aws, alias)
    assert document == ["aa", alias]
    assert answer["ExecutedVersion"] == version
    assert "snapshot" in answer["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"]


def test_a_function_sends_to_a_queue_by_its_own_key(server: Server, aws: Any, deploy: Deploy) -> None:
    sqs = server.client("sqs")
    url = sqs.create_queue(QueueName="from-inside")["QueueUrl"]
    source = "import alcove_client\n\ndef handler(event, context):\n    alcove_client.send('from-inside', event)\n"
    name = deploy("", Code={"ZipFile": package({"app.py": source, "alcove_client.py": CLIENT.read_text()})})
    assert call(aws, name, "quack")[0] is None
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert message["Body"] == "quack"
    sqs.delete_queue(QueueUrl=url)


# The SDK leaves its sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_the_baidu_sdk(server: Server) -> None:
    from baidubce.auth.bce_credentials import BceCredentials
    from baidubce.bce_client_configuration import BceClientConfiguration
    from baidubce.services.cfc.cfc_client import CfcClient

    env = server.environment()
    credentials = BceCredentials(env["BCE_ACCESS_KEY_ID"], env["BCE_SECRET_ACCESS_KEY"])
    client = CfcClient(BceClientConfiguration(credentials=credentials, endpoint=env["BCE_ENDPOINT"]))
    name = "bce-" + uuid.uuid4().hex[:8]
    code = base64.b64encode(package({"app.py": ECHO})).decode()
    created = client.create_function(
        name, handler="app.handler", memory_size=512, region="bj", zip_file=code, timeout=10, run_time="python3.11"
    )
    assert created.FunctionName == name
    try:
        assert client.get_function(name).Configuration.Handler == "app.handler"
        assert any(item.FunctionName == name for item in client.list_functions().Functions)
        answer = client.invocations(name, body={"x": 1})
        assert "echo" in str(answer) or answer is not None
    finally:
        client.delete_function(name)
        del client
        gc.collect()


def test_signatures_are_verified(server: Server) -> None:
    from botocore.config import Config

    env = server.environment()

    def attempt(key: str, secret: str) -> str:
        client = boto3.client(
            "lambda",
            endpoint_url=env["AWS_ENDPOINT_URL_LAMBDA"],
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}),
        )
        with pytest.raises(ClientError) as caught:
            client.list_functions()
        return str(caught.value.response["Error"]["Code"])

    assert attempt(env["AWS_ACCESS_KEY_ID"], "wrong") == "InvalidSignatureException"
    assert attempt("AKALNOBODYNOBODYNOBO", "x") == "UnrecognizedClientException"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"Runtime": "cobol"}, "InvalidParameterValueException"),
        ({"MemorySize": 5000}, "InvalidParameterValueException"),
        ({"Timeout": 1000}, "InvalidParameterValueException"),
        ({"Code": {"ZipFile": b"not a zip"}}, "InvalidParameterValueException"),
        ({"Code": {"ZipFile": package({"../evil.py": ""})}}, "InvalidParameterValueException"),
        ({"Code": {"ZipFile": package({"/etc/evil.py": ""})}}, "InvalidParameterValueException"),
    ],
)
def test_bad_functions_are_refused_in_the_dialect(deploy: Deploy, options: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        deploy(ECHO, **options)
    assert caught.value.response["Error"]["Code"] == code


def test_an_unknown_function_is_not_found(aws: Any) -> None:
    with pytest.raises(ClientError) as caught:
        aws.invoke(FunctionName="nothing-here")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_too_large_a_payload_is_refused(aws: Any, deploy: Deploy) -> None:
    name = deploy(ECHO)
    with pytest.raises(ClientError) as caught:
        aws.invoke(FunctionName=name, Payload=b'"' + b"x" * (6 * 1024 * 1024 + 10) + b'"')
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


FAILURES = {
    "missing": ("def other(e, c): pass\n", "Runtime.HandlerNotFound"),
    "import": ("import nothing_like_it\n", "Runtime.ImportModuleError"),
    "raise": ("def handler(e, c): raise KeyError('k')\n", "KeyError"),
    "notjson": ("def handler(e, c): return {1, 2}\n", "Runtime.MarshalError"),
    "exit": ("import os\ndef handler(e, c): os._exit(3)\n", "Runtime.ExitError"),
    "sysexit": ("import sys\ndef handler(e, c): sys.exit(3)\n", "Runtime.ExitError"),
    "memory": ("def handler(e, c):\n    x = []\n    while True: x.append(bytearray(1 << 20))\n", "Runtime.OutOfMemory"),
    "closes": ("import os\ndef handler(e, c):\n    os.closerange(3, 100)\n    return 1\n", "Runtime.ExitError"),
    "huge": ("def handler(e, c): return 'x' * (7 << 20)\n", "Function.ResponseSizeTooLarge"),
    "killall": (
        "import os\ndef handler(e, c): \n    os.kill(-1, 9)\n    os.kill(os.getpid(), 9)\n",
        "Runtime.ExitError",
    ),
    "forks": (
        "import os, time\ndef handler(e, c):\n    while True:\n        try:\n"
        "            if os.fork() == 0: time.sleep(60)\n"
        "        except OSError: raise RuntimeError('no more')\n",
        "RuntimeError",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_a_function_does_wrong_is_an_answer(aws: Any, deploy: Deploy, server: Server, case: str) -> None:
    source, kind = FAILURES[case]
    # With less memory than 512 processes take, a fork bomb is out of memory instead.
    name = deploy(source, MemorySize=1024 if case == "forks" else 256, Timeout=60)
    document, answer = call(aws, name, {})
    assert answer["FunctionError"] == "Unhandled"
    assert document["errorType"] == kind, document
    # Neighbours are none the worse.
    assert call(aws, deploy(ECHO), 1)[0]["echo"] == 1


def test_a_time_out_ends_the_call(aws: Any, deploy: Deploy) -> None:
    name = deploy("import time\ndef handler(e, c): time.sleep(60)\n", Timeout=1)
    document, _ = call(aws, name, {})
    assert "Task timed out after 1.00 seconds" in document["errorMessage"]


def test_a_flood_of_output_is_bounded(aws: Any, deploy: Deploy, server: Server) -> None:
    name = deploy("def handler(e, c):\n    for _ in range(320): print('x' * 32768)\n    return 'done'\n", Timeout=60)
    document, answer = call(aws, name, {}, LogType="Tail")
    assert document == "done"
    assert len(base64.b64decode(answer["LogResult"])) <= 4096


def test_asynchronous_calls_are_accepted(aws: Any, deploy: Deploy, server: Server) -> None:
    name = deploy(ECHO)
    assert aws.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")["StatusCode"] == 202
    deadline = time.monotonic() + 30
    while not server.call("GET", f"/alcove/v1/functions/{name}/logs?after=0&tail=10")["lines"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
