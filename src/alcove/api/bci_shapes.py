"""What BCI's face takes and answers, in the fields that its SDKs have and some of ours."""

from __future__ import annotations

from alcove.api.schema import (
    DECIMAL,
    FLAG,
    NUMBER,
    TEXT,
    TEXTS,
    Named,
    Schema,
    list_of,
    object_of,
    one_of,
    or_null,
    record,
)

_TAG = record(tagKey=TEXT, tagValue=TEXT)
_CREDENTIAL = object_of("server", server=TEXT, userName=TEXT, password=TEXT)
_MOUNT = object_of("name", "mountPath", name=TEXT, type=TEXT, mountPath=TEXT, readOnly=FLAG)
_PROBE = object_of(
    initialDelaySeconds=NUMBER,
    timeoutSeconds=NUMBER,
    periodSeconds=NUMBER,
    successThreshold=NUMBER,
    failureThreshold=NUMBER,
    httpGet=object_of("port", port=NUMBER, path=TEXT, scheme=TEXT),
    tcpSocket=object_of("port", port=NUMBER),
    exec=object_of("command", command=TEXTS),
    grpc=object_of("port", port=NUMBER, service=TEXT),
)
_CONTAINER = object_of(
    "name",
    "image",
    name=TEXT,
    image=TEXT,
    memory=DECIMAL,
    cpu=DECIMAL,
    workingDir=TEXT,
    imagePullPolicy=TEXT,
    commands=TEXTS,
    args=TEXTS,
    volumeMounts=list_of(_MOUNT),
    ports=list_of(object_of("port", port=NUMBER, name=TEXT, protocol=TEXT)),
    environmentVars=list_of(object_of("key", key=TEXT, value=TEXT)),
    livenessProbe=_PROBE,
    readinessProbe=_PROBE,
    startupProbe=_PROBE,
)
_FILE = object_of("path", path=TEXT, file=TEXT)
_VOLUME = object_of(
    nfs=list_of(object_of("name", "server", "path", name=TEXT, server=TEXT, path=TEXT, readOnly=FLAG)),
    emptyDir=list_of(object_of("name", name=TEXT, medium=TEXT, sizeLimit=DECIMAL)),
    configFile=list_of(object_of("name", name=TEXT, defaultMode=NUMBER, configFiles=list_of(_FILE))),
)
CREATE = object_of(
    "name",
    "containers",
    name=TEXT,
    zoneName=TEXT,
    securityGroupIds=TEXTS,
    subnetIds=TEXTS,
    restartPolicy=one_of("Always", "OnFailure", "Never"),
    terminationGracePeriodSeconds=NUMBER,
    hostName=TEXT,
    tags=list_of(object_of("tagKey", tagKey=TEXT, tagValue=TEXT)),
    imageRegistryCredentials=list_of(_CREDENTIAL),
    containers=list_of(_CONTAINER),
    initContainers=list_of(_CONTAINER),
    volume=_VOLUME,
    replicas=NUMBER,
)
CREATED = record({"instanceIds": TEXTS}, instanceId=TEXT)
BATCH = object_of("instanceIds", instanceIds=TEXTS, relatedReleaseFlag=FLAG)
DELETED = record(instanceIds=TEXTS)

_SUMMARY: dict[str, Schema] = {
    "instanceId": TEXT,
    "instanceName": TEXT,
    "status": one_of("Pending", "Running", "Succeeded", "Failed", "Unknown", "Terminating"),
    "reason": TEXT,
    "message": TEXT,
    "zoneName": TEXT,
    "cpuType": TEXT,
    "gpuType": TEXT,
    "cpu": DECIMAL,
    "memory": DECIMAL,
    "bandwidthInMbps": NUMBER,
    "internalIp": TEXT,
    "publicIp": TEXT,
    "createTime": TEXT,
    "updateTime": TEXT,
    "deleteTime": or_null(TEXT),
    "restartPolicy": TEXT,
    "tags": list_of(_TAG),
}
INSTANCES = record(
    {"nextMarker": TEXT},
    marker=TEXT,
    isTruncated=FLAG,
    maxKeys=NUMBER,
    result=list_of(Named("BciInstance", record(**_SUMMARY))),
)
_STATE = or_null(
    record(
        state=one_of("Waiting", "Running", "Terminated"),
        reason=TEXT,
        message=TEXT,
        startTime=TEXT,
        finishTime=TEXT,
        detailStatus=TEXT,
        exitCode=NUMBER,
    )
)
_SHOWN_CONTAINER = Named(
    "BciContainer",
    record(
        name=TEXT,
        image=TEXT,
        cpu=DECIMAL,
        gpu=DECIMAL,
        memory=DECIMAL,
        workingDir=TEXT,
        imagePullPolicy=TEXT,
        commands=TEXTS,
        args=TEXTS,
        ports=list_of(record(name=TEXT, port=NUMBER, protocol=TEXT)),
        volumeMounts=list_of(record(name=TEXT, type=TEXT, mountPath=TEXT, readOnly=FLAG)),
        envs=list_of(record(key=TEXT, value=TEXT)),
        createTime=TEXT,
        updateTime=TEXT,
        deleteTime=or_null(TEXT),
        previousState=_STATE,
        currentState=_STATE,
        ready=FLAG,
        restartCount=NUMBER,
    ),
)
_SUBNET = record(subnetId=TEXT, name=TEXT, cidr=TEXT, vpcId=TEXT, subnetType=TEXT, description=TEXT, createTime=TEXT)
_EVENT = record(type=TEXT, reason=TEXT, message=TEXT, count=NUMBER, firstTimestamp=TEXT, lastTimestamp=TEXT)
INSTANCE = record(
    instance=Named(
        "BciInstanceDetail",
        record(
            **_SUMMARY,
            volume=_VOLUME,
            containers=list_of(_SHOWN_CONTAINER),
            initContainers=list_of(_SHOWN_CONTAINER),
            securityGroups=list_of(record(securityGroupId=TEXT, name=TEXT, description=TEXT, vpcId=TEXT)),
            vpc={"type": "null"},
            subnet=or_null(_SUBNET),
            conditions=list_of(object_of("type", "status", type=TEXT, status=TEXT, reason=TEXT)),
            events=list_of(_EVENT),
        ),
    )
)

CREATE_CACHE = object_of(
    "imageCacheName",
    "originImages",
    imageCacheName=TEXT,
    originImages=list_of(
        object_of("originImageAddress", originImageAddress=TEXT, originImageVersion=TEXT),
    ),
    subnetId=TEXT,
    securityGroupId=TEXT,
    zoneName=TEXT,
    temporaryStorageSize=NUMBER,
    needEip=FLAG,
    eipIp=TEXT,
    autoMatchImageCache=FLAG,
    imageRegistrySecrets=list_of(_CREDENTIAL),
)
CREATED_CACHE = record(imageCacheId=TEXT)
_CACHE = Named(
    "BciImageCache",
    record(
        imageCacheId=TEXT,
        imageCacheName=TEXT,
        originImages=TEXTS,
        status=TEXT,
        message=TEXT,
        progress=NUMBER,
        expiredTime=TEXT,
        createdTime=TEXT,
        lastestMatchedTime=TEXT,
    ),
)
CACHES = record(totalCount=NUMBER, pageNo=NUMBER, pageSize=NUMBER, result=list_of(_CACHE))
BATCH_CACHES = object_of("imageCacheIds", imageCacheIds=TEXTS)
DELETED_CACHES = record(imageCacheIds=TEXTS)
