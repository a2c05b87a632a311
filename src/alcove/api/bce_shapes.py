"""What Baidu's CFC face answers, in the fields that its SDKs read and some of ours."""

from __future__ import annotations

from alcove.api.aws_shapes import MAPPING_ALWAYS, MAPPING_SOMETIMES
from alcove.api.schema import FLAG, MAP, NUMBER, TEXT, TEXTS, Named, Schema, list_of, one_of, or_null, record
from alcove.api.shapes import LAYER_CONTENT, WEIGHTS
from alcove.sandbox.protocol import Isolation


def page_of(name: str, items: Schema) -> Schema:
    """Return the schema of a page: ``NextMarker`` is always there, empty on the last."""
    return record(**{name: list_of(items)}, NextMarker=TEXT)


_USED_LAYER = record(Brn=TEXT, CodeSize=NUMBER, LayerName=TEXT, Version=NUMBER)
_TARGET = or_null(record(Type=TEXT, Destination=TEXT))
_ASYNC = record(
    MaxRetryIntervalInSeconds=or_null(NUMBER), MaxRetryAttempts=or_null(NUMBER), OnSuccess=_TARGET, OnFailure=_TARGET
)
FUNCTION = Named(
    "BceFunction",
    record(
        {"AsyncInvokeConfig": or_null(_ASYNC)},
        FunctionName=TEXT,
        FunctionBrn=TEXT,
        FunctionArn=TEXT,
        Runtime=TEXT,
        Handler=TEXT,
        CodeSize=NUMBER,
        CodeSha256=TEXT,
        Description=TEXT,
        Timeout=NUMBER,
        MemorySize=NUMBER,
        LastModified=TEXT,
        UpdatedAt=TEXT,
        Version=TEXT,
        CommitID=TEXT,
        Environment=record(Variables=MAP),
        Region=TEXT,
        Uid=TEXT,
        EphemeralStorage=record(Size=NUMBER),
        Isolation=one_of(*Isolation),
        FreshVm=FLAG,
        InstanceConcurrency=NUMBER,
        PodConcurrentQuota=NUMBER,
        ServiceName=TEXT,
        DeadLetterTopic=TEXT,
        Layers=list_of(_USED_LAYER),
        IsolationCase=TEXT,
        IsolationReason=TEXT,
    ),
)
FUNCTIONS = page_of("Functions", FUNCTION)
VERSIONS = page_of("Versions", FUNCTION)
WHOLE_FUNCTION = record(Code=record(Location=TEXT, RepositoryType=TEXT), Configuration=FUNCTION)

ALIAS = Named(
    "BceAlias",
    record(
        {"RoutingConfig": WEIGHTS},
        AliasBrn=TEXT,
        AliasArn=TEXT,
        FunctionName=TEXT,
        FunctionVersion=TEXT,
        Name=TEXT,
        Description=TEXT,
        Uid=TEXT,
        CreatedAt=TEXT,
        UpdatedAt=TEXT,
    ),
)

_LAYER: dict[str, Schema] = {
    "LayerVersionBrn": TEXT,
    "Version": NUMBER,
    "Description": TEXT,
    "CreatedDate": TEXT,
    "CompatibleRuntimes": TEXTS,
    "LicenseInfo": TEXT,
}
LAYER_VERSION = Named("BceLayerVersion", record(Content=LAYER_CONTENT, LayerBrn=TEXT, **_LAYER))
_NUMBERS = {"Total": NUMBER, "PageNo": NUMBER, "PageSize": NUMBER}
LAYER_VERSIONS = record(LayerVersions=list_of(record(**_LAYER)), NextMarker=TEXT, **_NUMBERS)
_LISTED_LAYER = record(LayerName=TEXT, LayerBrn=TEXT, LatestMatchingVersion=record(**_LAYER))
# With ``find=LayerVersion`` it is one version.
LAYERS = {
    "anyOf": [
        record(Layers=list_of(_LISTED_LAYER), NextMarker=TEXT, **_NUMBERS),
        LAYER_VERSION,
    ]
}

# Of a stream (``datahub_topic``).
_STREAM = {
    "MetaHostEndpoint": TEXT,
    "MetaHostPort": NUMBER,
    "PipeName": TEXT,
    "StartPoint": NUMBER,
    "ACLName": TEXT,
    "ACLPassword": TEXT,
}
MAPPING = Named(
    "BceEventSourceMapping",
    record(
        {**MAPPING_SOMETIMES, **_STREAM},
        **{**MAPPING_ALWAYS, "LastModified": TEXT},
        FunctionBrn=TEXT,
        FunctionName=TEXT,
        EventSourceBrn=TEXT,
        Enabled=FLAG,
        Type=TEXT,
    ),
)

RELATION = Named("BceRelation", record(RelationId=TEXT, Sid=TEXT, Source=TEXT, Target=TEXT, Data={"type": "object"}))
