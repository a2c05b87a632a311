"""What the operations of the AWS and Baidu faces take: the fields of their requests, for the OpenAPI document.

Operations of other faces say it in their ``Route``; one that says nothing is in the document with its path alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from alcove.api import (
    aws,
    aws_aliases,
    aws_concurrency,
    aws_permissions,
    bce,
    bce_aliases,
    bce_concurrency,
    event_invoke,
    mappings,
    sqs,
)
from alcove.api.router import Act
from alcove.api.schema import ANYTHING, FLAG, MAP, NUMBER, TEXT, TEXTS, Detail, object_of, one_of

_ENVIRONMENT = object_of(Variables=MAP)
_CONFIGURATION = {
    "Handler": TEXT,
    "Runtime": one_of("python3.11", "nodejs18.x", "provided.al2"),
    "MemorySize": NUMBER,
    "Timeout": NUMBER,
    "Description": TEXT,
    "Environment": _ENVIRONMENT,
    "Role": TEXT,
    "RevisionId": TEXT,
}
_PAGE = ("Marker", "MaxItems")
_QUALIFIED = Detail(query=("Qualifier",))
_CREATE = object_of(
    "FunctionName",
    "Runtime",
    "Code",
    FunctionName=TEXT,
    Code=object_of("ZipFile", ZipFile=TEXT, Publish=FLAG, DryRun=FLAG),
    Publish=FLAG,
    Tags=MAP,
    **_CONFIGURATION,
)
_CODE = object_of("ZipFile", ZipFile=TEXT, Publish=FLAG, DryRun=FLAG, RevisionId=TEXT)
_PUBLISH = object_of(Description=TEXT, CodeSha256=TEXT, RevisionId=TEXT)
_WEIGHTS = object_of(AdditionalVersionWeights={"type": "object", "additionalProperties": {"type": "number"}})
_ALIAS = {
    "FunctionVersion": TEXT,
    "Description": TEXT,
    "RoutingConfig": _WEIGHTS,
    "AdditionalVersion": TEXT,
    "AdditionalVersionWeight": {"type": "number"},
}
_NEW_ALIAS = Detail(object_of("Name", "FunctionVersion", Name=TEXT, **_ALIAS), status=201)
_RESERVED = object_of("ReservedConcurrentExecutions", ReservedConcurrentExecutions=NUMBER)
_PROVISIONED = object_of("ProvisionedConcurrentExecutions", ProvisionedConcurrentExecutions=NUMBER)
_PERMISSION = object_of(
    "StatementId",
    "Action",
    "Principal",
    StatementId=TEXT,
    Action=one_of("lambda:InvokeFunction", "lambda:InvokeFunctionUrl", "lambda:*"),
    Principal=TEXT,
    SourceArn=TEXT,
    SourceAccount=TEXT,
    EventSourceToken=TEXT,
    FunctionUrlAuthType=one_of("NONE", "AWS_IAM"),
    PrincipalOrgID=TEXT,
    RevisionId=TEXT,
)
_DESTINATION = object_of(Destination=TEXT)
_RETRIES = Detail(
    object_of(
        MaximumRetryAttempts=NUMBER,
        MaximumEventAgeInSeconds=NUMBER,
        DestinationConfig=object_of(OnSuccess=_DESTINATION, OnFailure=_DESTINATION),
    ),
    query=("Qualifier",),
)
_MAPPING = {
    "FunctionName": TEXT,
    "BatchSize": NUMBER,
    "Enabled": FLAG,
    "MaximumBatchingWindowInSeconds": NUMBER,
    "MaximumRetryAttempts": NUMBER,
    "FunctionResponseTypes": TEXTS,
    "ScalingConfig": object_of(MaximumConcurrency=NUMBER),
}
_NEW_MAPPING = Detail(object_of("FunctionName", "EventSourceArn", EventSourceArn=TEXT, **_MAPPING), status=202)
_CHANGED_MAPPING = Detail(object_of(**_MAPPING), status=202)

DETAILS: Mapping[Act, Detail] = {
    aws.create_function: Detail(_CREATE, status=201),
    aws.get_function: _QUALIFIED,
    aws.get_configuration: _QUALIFIED,
    aws.list_functions: Detail(query=(*_PAGE, "FunctionVersion")),
    aws.update_code: Detail(_CODE),
    aws.update_configuration: Detail(object_of(**_CONFIGURATION)),
    aws.publish_version: Detail(_PUBLISH, status=201),
    aws.list_versions: Detail(query=_PAGE),
    aws.delete_function: Detail(query=("Qualifier",), status=204),
    aws.invoke: Detail(
        ANYTHING,
        query=("Qualifier",),
        headers=("X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Client-Context"),
    ),
    aws.tag: Detail(object_of("Tags", Tags=MAP), status=204),
    aws.untag: Detail(query=("tagKeys",), status=204),
    aws_aliases.create_alias: _NEW_ALIAS,
    aws_aliases.update_alias: Detail(object_of(**_ALIAS)),
    aws_concurrency.put_reserved: Detail(_RESERVED),
    aws_concurrency.put_provisioned: Detail(_PROVISIONED, query=("Qualifier",), status=202),
    aws_permissions.add_permission: Detail(_PERMISSION, query=("Qualifier",), status=201),
    event_invoke.put_config: _RETRIES,
    event_invoke.update_config: _RETRIES,
    mappings.create_mapping: _NEW_MAPPING,
    mappings.update_mapping: _CHANGED_MAPPING,
    mappings.create_cfc: _NEW_MAPPING,
    mappings.update_cfc: _CHANGED_MAPPING,
    sqs.act: Detail(object_of(), headers=("X-Amz-Target",)),
    bce_aliases.create_alias: _NEW_ALIAS,
    bce_aliases.update_alias: Detail(object_of(**_ALIAS)),
    bce_concurrency.put_reserved: Detail(_RESERVED),
    bce.create_function: Detail(_CREATE, status=201),
    bce.get_function: _QUALIFIED,
    bce.get_configuration: _QUALIFIED,
    bce.list_functions: Detail(query=_PAGE),
    bce.update_code: Detail(_CODE),
    bce.update_configuration: Detail(object_of(**_CONFIGURATION)),
    bce.publish_version: Detail(_PUBLISH, query=("Description",), status=201),
    bce.list_versions: Detail(query=_PAGE),
    bce.delete_function: Detail(query=("Qualifier",), status=204),
    bce.invoke: Detail(ANYTHING, query=("invocationType", "logType", "Qualifier")),
}
