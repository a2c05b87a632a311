"""Every operation of boto3's ``lambda`` client: it works, or is refused by the error that AWS has for it.

The table is held against botocore's model, so one that is not in it fails.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.test_sqs import client_of

ACCOUNT_ROLE = "arn:aws:iam::000000000000:role/any"
MODEL = botocore.session.get_session().get_service_model("lambda")
PAGINATORS = set(botocore.session.get_session().get_paginator_model("lambda")._paginator_config)
DURABLE = "arn:aws:lambda:eu-central-1:000000000000:function:f:1/durable-execution/n/1"


@dataclass
class World:
    """A function with versions 1 and 2, the alias ``live``, and one of everything that a function can have."""

    aws: Any
    sqs: Any
    name: str
    layer: dict[str, Any]
    mapping: str
    queue_arn: str
    made: list[str]

    @property
    def arn(self) -> str:
        return str(self.aws.get_function_configuration(FunctionName=self.name)["FunctionArn"])

    def fresh(self) -> str:
        """Make another function, for what changes or removes it."""
        name = f"{self.name}-{len(self.made)}"
        self.aws.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}, Publish=True
        )
        self.made.append(name)
        return name

    def with_alias(self, alias: str = "live") -> str:
        name = self.fresh()
        self.aws.create_alias(FunctionName=name, Name=alias, FunctionVersion="1")
        return name

    def with_url(self) -> str:
        name = self.fresh()
        self.aws.create_function_url_config(FunctionName=name, AuthType="NONE")
        return name

    def with_event_config(self) -> str:
        name = self.fresh()
        self.aws.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
        return name

    def with_permission(self) -> str:
        name = self.fresh()
        self.aws.add_permission(FunctionName=name, **PERMISSION)
        return name

    def arn_of(self, name: str) -> str:
        return str(self.aws.get_function_configuration(FunctionName=name)["FunctionArn"])

    def whole_policy(self) -> dict[str, str]:
        arn = self.arn_of(self.with_permission())
        return {"ResourceArn": arn, "Policy": self.aws.get_resource_policy(ResourceArn=arn)["Policy"]}

    def with_provisioned(self) -> str:
        name = self.fresh()
        self.aws.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)
        return name

    def new_mapping(self) -> str:
        made = self.aws.create_event_source_mapping(
            FunctionName=self.fresh(), EventSourceArn=self.queue_arn, Enabled=False
        )
        return str(made["UUID"])

    def layer_with_permission(self) -> dict[str, Any]:
        made = self.publish_layer()
        self.aws.add_layer_version_permission(**made, **LAYER_PERMISSION)
        return made

    def publish_layer(self) -> dict[str, Any]:
        made = self.aws.publish_layer_version(LayerName="surface", Content={"ZipFile": HELLO})
        return {"LayerName": "surface", "VersionNumber": made["Version"]}


PERMISSION = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "sns.amazonaws.com"}
LAYER_PERMISSION = {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}
Options = Callable[[World], dict[str, Any]]


def of(**options: Any) -> Options:
    return lambda world: {"FunctionName": world.name, **options}


def of_fresh(**options: Any) -> Options:
    return lambda world: {"FunctionName": world.fresh(), **options}


def alone(**options: Any) -> Options:
    return lambda world: options


INVALID, MISSING = "InvalidParameterValueException", "ResourceNotFoundException"
CONFIG_ARN = "arn:aws:lambda:eu-central-1:000000000000:code-signing-config:csc-0123456789abcdef0"
PROVIDER = {"CapacityProviderName": "any"}
EXECUTION = {"DurableExecutionArn": DURABLE}
# What is asked, and the code of the refusal, "" where it works.
CASES: dict[str, tuple[Options, str]] = {
    "AddLayerVersionPermission": (lambda world: {**world.publish_layer(), **LAYER_PERMISSION}, ""),
    "AddPermission": (of_fresh(**PERMISSION), ""),
    "CheckpointDurableExecution": (alone(**EXECUTION, CheckpointToken="t"), INVALID),
    "CreateAlias": (of_fresh(Name="a", FunctionVersion="1"), ""),
    "CreateCapacityProvider": (
        alone(
            **PROVIDER,
            VpcConfig={"SubnetIds": ["subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-0123456789abcdef0"]},
            PermissionsConfig={"CapacityProviderOperatorRoleArn": ACCOUNT_ROLE},
        ),
        INVALID,
    ),
    "CreateCodeSigningConfig": (
        alone(AllowedPublishers={"SigningProfileVersionArns": ["arn:aws:signer:eu-central-1:0:/signing-profiles/p/1"]}),
        INVALID,
    ),
    "CreateEventSourceMapping": (
        lambda world: {"FunctionName": world.fresh(), "EventSourceArn": world.queue_arn, "Enabled": False},
        "",
    ),
    "CreateFunction": (
        lambda world: {
            "FunctionName": world.made.append("surface-created") or "surface-created",
            "Runtime": "python3.11",
            "Role": ROLE,
            "Handler": "echo",
            "Code": {"ZipFile": HELLO},
            "Architectures": ["x86_64"],
            "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
        },
        "",
    ),
    "CreateFunctionUrlConfig": (of_fresh(AuthType="AWS_IAM"), ""),
    "DeleteAlias": (lambda world: {"FunctionName": world.with_alias(), "Name": "live"}, ""),
    "DeleteCapacityProvider": (alone(**PROVIDER), MISSING),
    "DeleteCodeSigningConfig": (alone(CodeSigningConfigArn=CONFIG_ARN), MISSING),
    "DeleteDurableExecution": (alone(**EXECUTION), MISSING),
    "DeleteEventSourceMapping": (lambda world: {"UUID": world.new_mapping()}, ""),
    "DeleteFunction": (of_fresh(), ""),
    "DeleteFunctionCodeSigningConfig": (of(), ""),
    "DeleteFunctionConcurrency": (of_fresh(), ""),
    "DeleteFunctionEventInvokeConfig": (lambda world: {"FunctionName": world.with_event_config()}, ""),
    "DeleteFunctionUrlConfig": (lambda world: {"FunctionName": world.with_url()}, ""),
    "DeleteLayerVersion": (lambda world: world.publish_layer(), ""),
    "DeleteProvisionedConcurrencyConfig": (
        lambda world: {"FunctionName": world.with_provisioned(), "Qualifier": "1"},
        "",
    ),
    "DeleteResourcePolicy": (lambda world: {"ResourceArn": world.arn_of(world.with_permission())}, ""),
    "GetAccountSettings": (alone(), ""),
    "GetAlias": (of(Name="live"), ""),
    "GetCapacityProvider": (alone(**PROVIDER), MISSING),
    "GetCodeSigningConfig": (alone(CodeSigningConfigArn=CONFIG_ARN), MISSING),
    "GetDurableExecution": (alone(**EXECUTION), MISSING),
    "GetDurableExecutionHistory": (alone(**EXECUTION), MISSING),
    "GetDurableExecutionState": (alone(**EXECUTION, CheckpointToken="t"), INVALID),
    "GetEventSourceMapping": (lambda world: {"UUID": world.mapping}, ""),
    "GetFunction": (of(Qualifier="live"), ""),
    "GetFunctionCodeSigningConfig": (of(), ""),
    "GetFunctionConcurrency": (of(), ""),
    "GetFunctionConfiguration": (of(Qualifier="1"), ""),
    "GetFunctionEventInvokeConfig": (of(), ""),
    "GetFunctionRecursionConfig": (of(), ""),
    "GetFunctionScalingConfig": (of(Qualifier="1"), INVALID),
    "GetFunctionUrlConfig": (of(), ""),
    "GetLayerVersion": (lambda world: world.layer, ""),
    "GetLayerVersionByArn": (
        lambda world: {"Arn": world.aws.get_layer_version(**world.layer)["LayerVersionArn"]},
        "",
    ),
    "GetLayerVersionPolicy": (lambda world: world.layer, ""),
    "GetPolicy": (of(), ""),
    "GetProvisionedConcurrencyConfig": (of(Qualifier="live"), ""),
    "GetResourcePolicy": (lambda world: {"ResourceArn": world.arn}, ""),
    "GetRuntimeManagementConfig": (of(), ""),
    "Invoke": (of(Payload=b"1"), ""),
    "InvokeAsync": (of(InvokeArgs=b"{}"), ""),
    "InvokeWithResponseStream": (of(Payload=b"1"), ""),
    "ListAliases": (of(), ""),
    "ListCapacityProviders": (alone(), ""),
    "ListCodeSigningConfigs": (alone(), ""),
    "ListDurableExecutionsByFunction": (of(), ""),
    "ListEventSourceMappings": (of(), ""),
    "ListFunctionEventInvokeConfigs": (of(), ""),
    "ListFunctionUrlConfigs": (of(), ""),
    "ListFunctionVersionsByCapacityProvider": (alone(**PROVIDER), MISSING),
    "ListFunctions": (alone(FunctionVersion="ALL"), ""),
    "ListFunctionsByCodeSigningConfig": (alone(CodeSigningConfigArn=CONFIG_ARN), MISSING),
    "ListLayerVersions": (alone(LayerName="surface"), ""),
    "ListLayers": (alone(CompatibleRuntime="python3.11"), ""),
    "ListProvisionedConcurrencyConfigs": (of(), ""),
    "ListTags": (lambda world: {"Resource": world.arn}, ""),
    "ListVersionsByFunction": (of(), ""),
    "PauseDurableExecution": (alone(**EXECUTION), MISSING),
    "PublishLayerVersion": (alone(LayerName="surface", Content={"ZipFile": HELLO}), ""),
    "PublishVersion": (of_fresh(), ""),
    "PutFunctionCodeSigningConfig": (of(CodeSigningConfigArn=CONFIG_ARN), "CodeSigningConfigNotFoundException"),
    "PutFunctionConcurrency": (of_fresh(ReservedConcurrentExecutions=1), ""),
    "PutFunctionEventInvokeConfig": (of_fresh(MaximumRetryAttempts=0), ""),
    "PutFunctionRecursionConfig": (of(RecursiveLoop="Allow"), INVALID),
    "PutFunctionScalingConfig": (of(Qualifier="1"), INVALID),
    "PutProvisionedConcurrencyConfig": (of_fresh(Qualifier="1", ProvisionedConcurrentExecutions=1), ""),
    "PutResourcePolicy": (lambda world: world.whole_policy(), ""),
    "PutRuntimeManagementConfig": (of(UpdateRuntimeOn="FunctionUpdate"), INVALID),
    "RemoveLayerVersionPermission": (lambda world: {**world.layer_with_permission(), "StatementId": "s"}, ""),
    "RemovePermission": (lambda world: {"FunctionName": world.with_permission(), "StatementId": "s"}, ""),
    "ResumeDurableExecution": (alone(**EXECUTION), MISSING),
    "SendDurableExecutionCallbackFailure": (alone(CallbackId="c", Error={}), MISSING),
    "SendDurableExecutionCallbackHeartbeat": (alone(CallbackId="c"), MISSING),
    "SendDurableExecutionCallbackSuccess": (alone(CallbackId="c", Result=b"1"), MISSING),
    "StopDurableExecution": (alone(**EXECUTION), MISSING),
    "TagResource": (lambda world: {"Resource": world.arn, "Tags": {"a": "b"}}, ""),
    "UntagResource": (lambda world: {"Resource": world.arn, "TagKeys": ["a"]}, ""),
    "UpdateAlias": (lambda world: {"FunctionName": world.with_alias(), "Name": "live", "Description": "d"}, ""),
    "UpdateCapacityProvider": (alone(**PROVIDER), MISSING),
    "UpdateCodeSigningConfig": (alone(CodeSigningConfigArn=CONFIG_ARN, Description="d"), MISSING),
    "UpdateEventSourceMapping": (lambda world: {"UUID": world.new_mapping(), "BatchSize": 3}, ""),
    "UpdateFunctionCode": (of_fresh(ZipFile=HELLO), ""),
    "UpdateFunctionConfiguration": (of_fresh(MemorySize=256), ""),
    "UpdateFunctionEventInvokeConfig": (
        lambda world: {"FunctionName": world.with_event_config(), "MaximumRetryAttempts": 2},
        "",
    ),
    "UpdateFunctionUrlConfig": (lambda world: {"FunctionName": world.with_url(), "AuthType": "AWS_IAM"}, ""),
}


@pytest.fixture(scope="module")
def world(platform: Platform) -> Iterator[World]:
    aws, sqs = platform.aws(), client_of(platform)
    url = sqs.create_queue(QueueName="surface")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    made = World(aws, sqs, "surface", {}, "", arn, ["surface"])
    create = {"Runtime": "python3.11", "Role": ROLE, "Handler": "echo", "Code": {"ZipFile": HELLO}, "Publish": True}
    aws.create_function(FunctionName=made.name, **create)
    aws.update_function_configuration(FunctionName=made.name, MemorySize=256)
    aws.publish_version(FunctionName=made.name)
    for alias, version in (("live", "1"), ("next", "2")):
        named = {"FunctionName": made.name, "Qualifier": alias}
        aws.create_alias(FunctionName=made.name, Name=alias, FunctionVersion=version)
        aws.create_function_url_config(**named, AuthType="NONE")
        aws.put_function_event_invoke_config(**named, MaximumRetryAttempts=1)
        aws.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=1)
    aws.create_function_url_config(FunctionName=made.name, AuthType="NONE")
    aws.put_function_event_invoke_config(FunctionName=made.name, MaximumRetryAttempts=1)
    aws.add_permission(FunctionName=made.name, **PERMISSION)
    made.layer = made.layer_with_permission()
    made.publish_layer()
    aws.publish_layer_version(LayerName="surface-2", Content={"ZipFile": HELLO})
    mappings = [aws.create_event_source_mapping(FunctionName=made.name, EventSourceArn=arn, Enabled=False)]
    other = sqs.create_queue(QueueName="surface-2")["QueueUrl"]
    mappings.append(
        aws.create_event_source_mapping(
            FunctionName=made.name, EventSourceArn=arn.replace(":surface", ":surface-2"), Enabled=False
        )
    )
    made.mapping = mappings[0]["UUID"]
    yield made
    for mapping in aws.list_event_source_mappings()["EventSourceMappings"]:
        aws.delete_event_source_mapping(UUID=mapping["UUID"])
    for name in made.made:
        try:
            aws.delete_function(FunctionName=name)
        except aws.exceptions.ResourceNotFoundException:
            pass
    for queue in (url, other):
        sqs.delete_queue(QueueUrl=queue)


def test_the_table_is_whole() -> None:
    assert sorted(CASES) == sorted(MODEL.operation_names)


@pytest.mark.parametrize("operation", CASES)
def test_every_operation(world: World, operation: str) -> None:
    options, code = CASES[operation]
    given = options(world)
    call = getattr(world.aws, xform_name(operation))
    if not code:
        answer = call(**given)
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        assert status == MODEL.operation_model(operation).http["responseCode"] or operation == "DeleteFunction", status
        return
    with pytest.raises(ClientError) as caught:
        call(**given)
    error = caught.value.response["Error"]
    assert (error["Code"], "route" in error["Message"]) == (code, False)
    assert "There is no " not in error["Message"]
    known = {shape.name for shape in MODEL.operation_model(operation).error_shapes}
    assert code in known, known


def pages(world: World, operation: str, **options: Any) -> list[list[Any]]:
    found = world.aws.get_paginator(xform_name(operation)).paginate(**options, PaginationConfig={"PageSize": 1})
    return [found.result_keys[0].search(page) for page in found]


LISTS: dict[str, tuple[dict[str, Any], int]] = {
    "ListAliases": ({"FunctionName": "surface"}, 2),
    "ListEventSourceMappings": ({"FunctionName": "surface"}, 2),
    "ListFunctionEventInvokeConfigs": ({"FunctionName": "surface"}, 3),
    "ListFunctionUrlConfigs": ({"FunctionName": "surface"}, 3),
    "ListFunctions": ({}, 1),
    "ListLayerVersions": ({"LayerName": "surface"}, 2),
    "ListLayers": ({}, 2),
    "ListProvisionedConcurrencyConfigs": ({"FunctionName": "surface"}, 2),
    "ListVersionsByFunction": ({"FunctionName": "surface"}, 3),
    "ListCapacityProviders": ({}, 0),
    "ListCodeSigningConfigs": ({}, 0),
    "ListDurableExecutionsByFunction": ({"FunctionName": "surface"}, 0),
}
# Pages of what does not exist: ``CASES`` has their refusals.
ABSENT = {
    "GetDurableExecutionHistory",
    "GetDurableExecutionState",
    "ListFunctionVersionsByCapacityProvider",
    "ListFunctionsByCodeSigningConfig",
}


@pytest.mark.parametrize("operation", LISTS)
def test_every_list_in_pages(world: World, operation: str) -> None:
    options, least = LISTS[operation]
    found = pages(world, operation, **options)
    assert all(len(page) <= 1 for page in found)
    items = [json.dumps(one, default=str) for page in found for one in page]
    assert len(items) == len(set(items)) >= least


def test_every_paginator_is_tried() -> None:
    assert set(LISTS) | ABSENT == PAGINATORS


@pytest.mark.parametrize("waiter", botocore.session.get_session().get_waiter_model("lambda").waiter_names)
def test_every_waiter(world: World, waiter: str) -> None:
    options = {"FunctionName": world.name}
    if waiter == "PublishedVersionActive":
        options["Qualifier"] = "1"
    world.aws.get_waiter(xform_name(waiter)).wait(**options, WaiterConfig={"Delay": 1, "MaxAttempts": 5})


def test_what_terraform_and_sam_ask_of_each_function(world: World) -> None:
    aws, name = world.aws, world.name
    assert "CodeSigningConfigArn" not in aws.get_function_code_signing_config(FunctionName=name)
    management = aws.get_runtime_management_config(FunctionName=name)
    assert management["UpdateRuntimeOn"] == "Auto"
    assert aws.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="Auto")["UpdateRuntimeOn"] == "Auto"
    assert aws.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    versions = aws.list_versions_by_function(FunctionName=name)["Versions"]
    assert [one["Version"] for one in versions] == ["$LATEST", "1", "2"]
    policy = aws.get_resource_policy(ResourceArn=world.arn)
    assert policy["Policy"] == aws.get_policy(FunctionName=name)["Policy"]
    for ask in (
        aws.get_function_code_signing_config,
        aws.get_runtime_management_config,
        aws.get_function_recursion_config,
        aws.list_durable_executions_by_function,
    ):
        with pytest.raises(aws.exceptions.ResourceNotFoundException):
            ask(FunctionName="surface-nobody")


def test_invoke_async_is_queued_and_run(world: World) -> None:
    name = world.fresh()
    assert world.aws.invoke_async(FunctionName=name, InvokeArgs=io.BytesIO(b'{"a": 1}'))["Status"] == 202
    with pytest.raises(ClientError) as caught:
        world.aws.invoke_async(FunctionName=name, InvokeArgs=b"no json")
    assert caught.value.response["Error"]["Code"] == "InvalidRequestContentException"


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"Architectures": ["arm64"]}, INVALID),
        ({"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, INVALID),
        ({"FileSystemConfigs": [{"Arn": "arn:aws:elasticfilesystem:x", "LocalMountPath": "/mnt/a"}]}, INVALID),
        ({"KMSKeyArn": "arn:aws:kms:eu-central-1:000000000000:key/1"}, INVALID),
        ({"ImageConfig": {"Command": ["a"]}}, INVALID),
        ({"CodeSigningConfigArn": CONFIG_ARN}, "CodeSigningConfigNotFoundException"),
    ],
)
def test_what_is_not_offered_is_refused_in_words(platform: Platform, wish: dict[str, Any], code: str) -> None:
    client = platform.aws(parameter_validation=False)
    with pytest.raises(ClientError) as caught:
        client.create_function(
            FunctionName="unoffered",
            Runtime="python3.11",
            Role=ROLE,
            Handler="echo",
            Code={"ZipFile": HELLO},
            **wish,
        )
    assert caught.value.response["Error"]["Code"] == code
    assert "offered" in str(caught.value) or "x86_64" in str(caught.value) or "cannot be found" in str(caught.value)
