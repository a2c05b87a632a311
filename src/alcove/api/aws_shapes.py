"""What the AWS face answers, in the members of AWS's own model and some of ours."""

from __future__ import annotations

from alcove.api.schema import DECIMAL, FLAG, MAP, NUMBER, TEXT, TEXTS, Named, Schema, list_of, one_of, page, record
from alcove.api.shapes import LAYER_CONTENT, RESERVED, WEIGHTS
from alcove.sandbox.protocol import Isolation

_LOGGING = record({"ApplicationLogLevel": TEXT, "SystemLogLevel": TEXT}, LogFormat=TEXT, LogGroup=TEXT)
# Ours: AWS's clients pass over them.
_OWN: dict[str, Schema] = {
    "Isolation": one_of(*Isolation),
    "IsolationCase": TEXT,
    "IsolationReason": TEXT,
    "Kernel": TEXT,
    "Network": FLAG,
    "FreshVm": FLAG,
    "InstanceConcurrency": NUMBER,
}
FUNCTION = Named(
    "AwsFunction",
    record(
        {
            "Layers": list_of(record(Arn=TEXT, CodeSize=NUMBER)),
            "DeadLetterConfig": record(TargetArn=TEXT),
            "StateReason": TEXT,
            "StateReasonCode": one_of("Creating", "InternalError"),
            "LastUpdateStatusReason": TEXT,
            "LastUpdateStatusReasonCode": one_of("InternalError"),
        },
        FunctionName=TEXT,
        FunctionArn=TEXT,
        Runtime=TEXT,
        Role=TEXT,
        Handler=TEXT,
        CodeSize=NUMBER,
        Description=TEXT,
        Timeout=NUMBER,
        MemorySize=NUMBER,
        LastModified=TEXT,
        CodeSha256=TEXT,
        Version=TEXT,
        Environment=record(Variables=MAP),
        TracingConfig=record(Mode=TEXT),
        RevisionId=TEXT,
        State=one_of("Pending", "Active", "Inactive", "Failed"),
        LastUpdateStatus=one_of("Successful", "InProgress", "Failed"),
        PackageType=one_of("Zip"),
        Architectures=TEXTS,
        EphemeralStorage=record(Size=NUMBER),
        LoggingConfig=_LOGGING,
        SnapStart=record(ApplyOn=TEXT, OptimizationStatus=one_of("On", "Off")),
        **_OWN,
    ),
)
FUNCTIONS = page("Functions", FUNCTION)
VERSIONS = page("Versions", FUNCTION)
WHOLE_FUNCTION = record(
    {"Concurrency": RESERVED},
    Configuration=FUNCTION,
    Code=record(RepositoryType=TEXT, Location=TEXT),
    Tags=MAP,
)
ACCOUNT = record(
    AccountLimit=record(
        TotalCodeSize=NUMBER,
        CodeSizeUnzipped=NUMBER,
        CodeSizeZipped=NUMBER,
        ConcurrentExecutions=NUMBER,
        UnreservedConcurrentExecutions=NUMBER,
    ),
    AccountUsage=record(TotalCodeSize=NUMBER, FunctionCount=NUMBER),
)
TAGS = record(Tags=MAP)

ALIAS = Named(
    "AwsAlias",
    record(
        {"RoutingConfig": WEIGHTS}, AliasArn=TEXT, Name=TEXT, FunctionVersion=TEXT, Description=TEXT, RevisionId=TEXT
    ),
)

_PROVISIONED: dict[str, Schema] = {
    "RequestedProvisionedConcurrentExecutions": NUMBER,
    "AllocatedProvisionedConcurrentExecutions": NUMBER,
    "AvailableProvisionedConcurrentExecutions": NUMBER,
    "Status": one_of("IN_PROGRESS", "READY", "FAILED"),
    "LastModified": TEXT,
}
PROVISIONED = record({"StatusReason": TEXT}, **_PROVISIONED)
# Of one function's configuration, or of all.
PROVISIONED_OR_PAGE = {
    "anyOf": [
        PROVISIONED,
        page("ProvisionedConcurrencyConfigs", record({"StatusReason": TEXT}, FunctionArn=TEXT, **_PROVISIONED)),
    ]
}

_LAYER: dict[str, Schema] = {
    "LayerVersionArn": TEXT,
    "Version": NUMBER,
    "Description": TEXT,
    "CreatedDate": TEXT,
    "CompatibleRuntimes": TEXTS,
    "CompatibleArchitectures": TEXTS,
    "LicenseInfo": TEXT,
}
LAYER_VERSION = Named("AwsLayerVersion", record(Content=LAYER_CONTENT, LayerArn=TEXT, **_LAYER))
LAYER_VERSIONS = page("LayerVersions", record(**_LAYER))
# With ``find=LayerVersion`` it is one version.
LAYERS = {
    "anyOf": [
        page("Layers", record(LayerName=TEXT, LayerArn=TEXT, LatestMatchingVersion=record(**_LAYER))),
        LAYER_VERSION,
    ]
}

STATEMENT = record(Statement=TEXT)
LAYER_STATEMENT = record(Statement=TEXT, RevisionId=TEXT)
POLICY = record(Policy=TEXT, RevisionId=TEXT)

_OUTCOME = record({"Destination": TEXT})
EVENT_INVOKE = Named(
    "AwsEventInvokeConfig",
    record(
        {"MaximumRetryAttempts": NUMBER, "MaximumEventAgeInSeconds": NUMBER},
        LastModified=DECIMAL,
        FunctionArn=TEXT,
        DestinationConfig=record(OnSuccess=_OUTCOME, OnFailure=_OUTCOME),
    ),
)

_CORS = record(
    AllowCredentials=FLAG,
    AllowHeaders=TEXTS,
    AllowMethods=TEXTS,
    AllowOrigins=TEXTS,
    ExposeHeaders=TEXTS,
    MaxAge=NUMBER,
)
URL = Named(
    "AwsFunctionUrl",
    record(
        {"Cors": _CORS},
        FunctionUrl=TEXT,
        FunctionArn=TEXT,
        AuthType=TEXT,
        InvokeMode=TEXT,
        CreationTime=TEXT,
        LastModifiedTime=TEXT,
    ),
)

_ACCESS = list_of(record(Type=TEXT, URI=TEXT))
_QUEUES: dict[str, Schema] = {"EventSourceArn": TEXT, "ScalingConfig": record(MaximumConcurrency=NUMBER)}
_OUTSIDE: dict[str, Schema] = {
    "SelfManagedEventSource": record(Endpoints={"type": "object", "additionalProperties": TEXTS}),
    "Topics": TEXTS,
    "Queues": TEXTS,
    "SourceAccessConfigurations": _ACCESS,
    "StartingPosition": TEXT,
    "MaximumRetryAttempts": NUMBER,
    "ParallelizationFactor": NUMBER,
    "DestinationConfig": record(OnFailure=_OUTCOME),
}
# What every mapping has, and what those of some kinds have.
MAPPING_ALWAYS: dict[str, Schema] = {
    "UUID": TEXT,
    "EventSourceMappingArn": TEXT,
    "FunctionArn": TEXT,
    "BatchSize": NUMBER,
    "MaximumBatchingWindowInSeconds": NUMBER,
    "FunctionResponseTypes": TEXTS,
    "LastModified": DECIMAL,
    "LastProcessingResult": TEXT,
    "State": TEXT,
    "StateTransitionReason": TEXT,
}
_FILTERS: dict[str, Schema] = {"FilterCriteria": record(Filters=list_of(record(Pattern=TEXT)))}
MAPPING_SOMETIMES = {**_QUEUES, **_OUTSIDE, **_FILTERS}
MAPPING = Named("AwsEventSourceMapping", record(MAPPING_SOMETIMES, **MAPPING_ALWAYS))
