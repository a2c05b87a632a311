"""The fields that requests of both clouds' APIs have: functions, aliases, concurrency, layers, pages."""

from __future__ import annotations

from alcove.api.schema import DECIMAL, FLAG, MAP, NUMBER, TEXT, TEXTS, Schema, list_of, object_of, one_of, record
from alcove.functions.runtimes import NAMES
from alcove.sandbox.protocol import Isolation

PAGE = ("Marker", "MaxItems")
QUALIFIER = ("Qualifier",)

VARIABLES = object_of(Variables=MAP)
LOGGING = object_of(LogFormat=one_of("Text", "JSON"), ApplicationLogLevel=TEXT, SystemLogLevel=TEXT, LogGroup=TEXT)
# Fields of our own, for the operator: others say it by tags.
_POLICIES = {
    "Isolation": one_of(*Isolation),
    "Network": FLAG,
    "FreshVm": FLAG,
    "InstanceConcurrency": NUMBER,
    "Kernel": TEXT,
}
CONFIGURATION: dict[str, Schema] = {
    "Handler": TEXT,
    "Runtime": one_of(*NAMES),
    "MemorySize": NUMBER,
    "Timeout": NUMBER,
    "Description": TEXT,
    "Environment": VARIABLES,
    "Role": TEXT,
    "EphemeralStorage": object_of("Size", Size=NUMBER),
    "LoggingConfig": LOGGING,
    "DeadLetterConfig": object_of(TargetArn=TEXT),
    "Layers": list_of({"anyOf": [TEXT, object_of("Brn", Brn=TEXT)]}),
    **_POLICIES,
}
UPDATE_CONFIGURATION = object_of(**CONFIGURATION, RevisionId=TEXT)
# The zip itself, or where it lies.
_CODE: dict[str, Schema] = dict.fromkeys(
    ("ZipFile", "S3Bucket", "S3Key", "S3ObjectVersion", "BosBucket", "BosObject"), TEXT
)
_SOURCES = (("ZipFile",), ("S3Bucket", "S3Key"), ("BosBucket", "BosObject"))


def _code(**more: Schema) -> Schema:
    return {**object_of(**_CODE, **more), "anyOf": [{"required": list(names)} for names in _SOURCES]}


CREATE = object_of(
    "FunctionName",
    "Runtime",
    "Code",
    FunctionName=TEXT,
    PackageType=one_of("Zip"),
    Code=_code(Publish=FLAG, DryRun=FLAG),
    Publish=FLAG,
    Tags=MAP,
    **CONFIGURATION,
)
UPDATE_CODE = _code(Publish=FLAG, DryRun=FLAG, RevisionId=TEXT)
PUBLISH = object_of(Description=TEXT, CodeSha256=TEXT, RevisionId=TEXT)

WEIGHTS = record(AdditionalVersionWeights={"type": "object", "additionalProperties": DECIMAL})
_ALIAS: dict[str, Schema] = {
    "FunctionVersion": TEXT,
    "Description": TEXT,
    "RoutingConfig": object_of(**WEIGHTS["properties"]),
}
CREATE_ALIAS = object_of("Name", "FunctionVersion", Name=TEXT, **_ALIAS)
UPDATE_ALIAS = object_of(**_ALIAS, RevisionId=TEXT)

RESERVE = object_of("ReservedConcurrentExecutions", ReservedConcurrentExecutions=NUMBER)
RESERVED = record({"ReservedConcurrentExecutions": NUMBER})

PUBLISH_LAYER = object_of(
    "Content",
    Content=_code(),
    Description=TEXT,
    LicenseInfo=TEXT,
    CompatibleRuntimes=TEXTS,
    CompatibleArchitectures=TEXTS,
)
LAYER_CONTENT = record(Location=TEXT, CodeSha256=TEXT, CodeSize=NUMBER)
