"""Layers through the stock clients, and for what the Baidu SDK lacks through signed requests of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from typing import Any

import pytest
from baidubce.exception import BceHttpClientError
from baidubce.http import http_methods
from tests.parity.conftest import HELLO, ROLE, Platform, zipped
from tests.parity.test_boto3 import refused

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
USE = "lambda:GetLayerVersion"


def layer_of(text: str) -> bytes:
    return zipped({"python/shared.py": text.encode()})


def test_the_life_of_a_layer(aws: Any, function: str, platform: Platform) -> None:
    data = layer_of("V = 1")
    made = aws.publish_layer_version(
        LayerName="life",
        Description="d",
        Content={"ZipFile": data},
        CompatibleRuntimes=["python3.11"],
        LicenseInfo="MIT",
    )
    arn = f"arn:aws:lambda:eu-central-1:{platform.tenant}:layer:life"
    assert (made["LayerArn"], made["LayerVersionArn"], made["Version"]) == (arn, f"{arn}:1", 1)
    assert made["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    with urllib.request.urlopen(made["Content"]["Location"]) as answer:
        assert answer.read() == data
    aws.publish_layer_version(LayerName=arn, Content={"ZipFile": layer_of("V = 2")})
    for found in (
        aws.get_layer_version(LayerName="life", VersionNumber=1),
        aws.get_layer_version_by_arn(Arn=f"{arn}:1"),
    ):
        assert (found["Description"], found["LicenseInfo"], found["CompatibleRuntimes"]) == ("d", "MIT", ["python3.11"])
    pages = aws.get_paginator("list_layer_versions").paginate(LayerName="life", PaginationConfig={"PageSize": 1})
    assert [one["Version"] for page in pages for one in page["LayerVersions"]] == [2, 1]
    pages = aws.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1})
    latest = {one["LayerName"]: one["LatestMatchingVersion"]["Version"] for page in pages for one in page["Layers"]}
    assert latest["life"] == 2
    matching = aws.list_layers(CompatibleRuntime="python3.11")["Layers"]
    assert [one["LatestMatchingVersion"]["Version"] for one in matching if one["LayerName"] == "life"] == [1]

    changed = aws.update_function_configuration(FunctionName=function, Layers=[f"{arn}:1"])
    assert changed["Layers"] == [{"Arn": f"{arn}:1", "CodeSize": len(data)}]
    assert aws.invoke(FunctionName=function, Payload=b"1")["Payload"].read() == b"1"
    for _ in range(2):
        aws.delete_layer_version(LayerName="life", VersionNumber=1)
    assert refused(aws.get_layer_version, LayerName="life", VersionNumber=1)[:2] == ("ResourceNotFoundException", 404)
    published = aws.publish_version(FunctionName=function)
    assert published["Layers"] == changed["Layers"]
    assert "Layers" not in aws.update_function_configuration(FunctionName=function, Layers=[])
    assert aws.get_function_configuration(FunctionName=function, Qualifier="1")["Layers"] == changed["Layers"]


def test_a_new_function_with_layers(aws: Any) -> None:
    arns = [
        aws.publish_layer_version(LayerName=name, Content={"ZipFile": layer_of(name)})["LayerVersionArn"]
        for name in ("one", "two")
    ]
    options = {"Runtime": "python3.11", "Role": ROLE, "Handler": "echo", "Code": {"ZipFile": HELLO}}
    made = aws.create_function(FunctionName="layered", Layers=arns, **options)
    assert [one["Arn"] for one in made["Layers"]] == arns
    aws.delete_function(FunctionName="layered")


def test_refusals(aws: Any, function: str) -> None:
    made = aws.publish_layer_version(LayerName="refused", Content={"ZipFile": layer_of("1")})["LayerVersionArn"]
    invalid = ("InvalidParameterValueException", 400)

    def use(*arns: str) -> tuple[str, int]:
        return refused(aws.update_function_configuration, FunctionName=function, Layers=list(arns))[:2]

    assert use("refused") == invalid
    assert use(made[:-1] + "7") == invalid
    assert use(made, made) == invalid
    assert use(*(made.replace(":1", f":{number}") for number in range(1, 7))) == invalid
    publish = aws.publish_layer_version
    assert refused(publish, LayerName="refused", Content={"ZipFile": b"no zip"})[:2] == invalid
    assert refused(publish, LayerName="refused", Content={})[:2] == invalid
    assert refused(publish, LayerName="refused", Content={"ZipFile": zipped({"alcove/x": b""})})[:2] == invalid
    assert refused(publish, LayerName="a b", Content={"ZipFile": layer_of("1")})[:2] == invalid
    many = {"LayerName": "refused", "Content": {"ZipFile": layer_of("1")}, "CompatibleArchitectures": ["z80"]}
    assert refused(publish, **many)[:2] == invalid
    assert refused(aws.get_layer_version_by_arn, Arn="arn:x")[:2] == invalid
    assert "Layers" not in aws.get_function_configuration(FunctionName=function)


def test_another_tenants_layer(aws: Any, platform: Platform, function: str) -> None:
    other = platform.aws(platform.other_access_key, platform.other_secret)
    theirs = other.publish_layer_version(LayerName="theirs", Content={"ZipFile": layer_of("1")})["LayerVersionArn"]
    layer = {"LayerName": theirs.rpartition(":")[0], "VersionNumber": 1}
    use = {"FunctionName": function, "Layers": [theirs]}
    assert refused(aws.update_function_configuration, **use)[:2] == ("InvalidParameterValueException", 400)
    for call in (aws.get_layer_version, aws.get_layer_version_policy):
        assert refused(call, **layer)[:2] == ("ResourceNotFoundException", 404)
    assert aws.list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"] == []
    statement = {"StatementId": "s", "Action": USE, "Principal": platform.tenant}
    assert refused(aws.add_layer_version_permission, **layer, **statement)[1] == 404
    assert refused(other.get_layer_version_policy, **layer)[1] == 404
    added = other.add_layer_version_permission(**layer, **statement)
    assert json.loads(added["Statement"])["Resource"] == theirs
    found = other.get_layer_version_policy(**layer)
    assert [one["Sid"] for one in json.loads(found["Policy"])["Statement"]] == ["s"]
    assert found["RevisionId"] == added["RevisionId"]
    assert aws.get_layer_version_by_arn(Arn=theirs)["Version"] == 1
    assert aws.update_function_configuration(**use)["Layers"][0]["Arn"] == theirs
    stale = {**layer, "StatementId": "s", "RevisionId": "stale"}
    assert refused(other.remove_layer_version_permission, **stale)[:2] == ("PreconditionFailedException", 412)
    other.remove_layer_version_permission(**layer, StatementId="s")
    aws.update_function_configuration(FunctionName=function, Layers=[])
    assert refused(aws.update_function_configuration, **use)[1] == 400


def test_the_baidu_dialect(cfc: Any, function: str) -> None:
    """The Python SDK has no calls for layers; its client signs ours, in the Go SDK's words."""

    def call(method: bytes, path: str, document: Any = None, **params: str) -> Any:
        return cfc._send_request(method, path, body=json.dumps(document or {}), params=params)

    zipped_layer = base64.b64encode(layer_of("V = 1")).decode()
    made = call(
        http_methods.POST,
        "/layers/bce/versions",
        {"Content": {"ZipFile": zipped_layer}, "CompatibleRuntimes": ["python3.11"]},
    )
    assert made.LayerVersionBrn == f"{made.LayerBrn}:1"
    assert made.LayerVersionBrn.startswith("brn:bce:cfc:")
    assert call(http_methods.GET, "/layers/bce/versions/1").Version == 1
    by_brn = call(http_methods.GET, "/layers", find="LayerVersion", Brn=made.LayerVersionBrn)
    assert by_brn.Content.CodeSha256 == made.Content.CodeSha256
    assert [one.Version for one in call(http_methods.GET, "/layers/bce/versions", Marker="0").LayerVersions] == [1]
    assert "bce" in [one.LayerName for one in call(http_methods.GET, "/layers").Layers]
    layers = {"Layers": [{"Brn": made.LayerVersionBrn}]}
    changed = call(http_methods.PUT, f"/functions/{function}/configuration", layers)
    assert (changed.Layers[0].Brn, changed.Layers[0].LayerName) == (made.LayerVersionBrn, "bce")
    call(http_methods.DELETE, "/layers/bce/versions/1")
    call(http_methods.POST, "/layers/bce/versions", {"Content": {"ZipFile": zipped_layer}})
    call(http_methods.DELETE, "/layers/bce")
    for path in ("/layers/bce", "/layers/bce/versions/2"):
        with pytest.raises(BceHttpClientError) as caught:
            call(http_methods.DELETE, path)
        assert (caught.value.last_error.code, caught.value.last_error.status_code) == ("ResourceNotFoundException", 404)
