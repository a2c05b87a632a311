"""What the operations of the AWS and Baidu faces take: the fields of their requests, for the OpenAPI document.

Operations of other faces say it in their ``Route``; one that says nothing is in the document with its path alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from alcove.api import aws, bce
from alcove.api.router import Act
from alcove.api.schema import ANYTHING, FLAG, MAP, NUMBER, TEXT, Detail, object_of, one_of

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
