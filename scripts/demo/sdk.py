"""One call by each stock client, told where to go by nothing but ``alcove env``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from alcove.cli.client import Answer
from alcove.cli.invocation import Call, read_call


def by_boto3(environment: Mapping[str, str], name: str, event: bytes) -> Call:
    import boto3

    os.environ.update(environment)
    client = boto3.client("lambda")
    began = time.perf_counter()
    answered = client.invoke(FunctionName=name, Payload=event)
    body = answered["Payload"].read()
    total_ms = (time.perf_counter() - began) * 1000
    metadata = answered["ResponseMetadata"]
    return read_call(Answer(metadata["HTTPStatusCode"], metadata["HTTPHeaders"], body), total_ms)


def by_bce(environment: Mapping[str, str], name: str, event: bytes) -> Call:
    from baidubce.auth.bce_credentials import BceCredentials
    from baidubce.bce_client_configuration import BceClientConfiguration
    from baidubce.services.cfc.cfc_client import CfcClient

    credentials = BceCredentials(environment["BCE_ACCESS_KEY_ID"], environment["BCE_SECRET_ACCESS_KEY"])
    client = CfcClient(BceClientConfiguration(credentials, endpoint=environment["BCE_ENDPOINT"]))
    began = time.perf_counter()
    answered = client.invocations(name, body=json.loads(event))
    body = answered.read()
    total_ms = (time.perf_counter() - began) * 1000
    headers = {key.lower(): value for key, value in answered.getheaders()}
    return read_call(Answer(answered.status, headers, body), total_ms)
