"""Buckets, calls and queues from within a function, by the standard library alone.

boto3 works as well, unmodified: the environment has what it looks for. It takes seconds to import on an emulated
processor, though, and these examples need few calls.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def get(bucket: str, key: str) -> bytes:
    return _call("s3", "GET", f"/{bucket}/{quote(key, safe='/~')}")


def put(bucket: str, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
    _call("s3", "PUT", f"/{bucket}/{quote(key, safe='/~')}", body, {"content-type": content_type})


def keys(bucket: str, prefix: str) -> Iterator[str]:
    """Every key under the prefix."""
    query = {"list-type": "2", "prefix": prefix}
    while True:
        root = ElementTree.fromstring(_call("s3", "GET", f"/{bucket}", query=query))  # noqa: S314
        for one in root.iter(f"{_NAMESPACE}Key"):
            yield one.text or ""
        more = root.findtext(f"{_NAMESPACE}NextContinuationToken")
        if not more:
            return
        query["continuation-token"] = more


def start(function: str, event: Any) -> None:
    """Have the function called, later: it is accepted durably when this returns."""
    path = f"/2015-03-31/functions/{quote(function)}/invocations"
    _call("lambda", "POST", path, json.dumps(event).encode(), {"x-amz-invocation-type": "Event"})


def send(queue: str, text: str) -> None:
    """Put a message into a queue: it is there durably when this returns."""
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.SendMessage"}
    _call("sqs", "POST", "/", json.dumps({"QueueUrl": f"/{queue}", "MessageBody": text}).encode(), headers)


def _call(
    service: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
) -> bytes:
    """Sign by Signature Version 4 and send."""
    endpoint = os.environ[f"AWS_ENDPOINT_URL_{service.upper()}"]
    date, text = (
        time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        urlencode(sorted((query or {}).items()), quote_via=quote),
    )
    digest = hashlib.sha256(body).hexdigest()
    every = {
        "host": urlsplit(endpoint).netloc,
        "x-amz-date": date,
        "x-amz-content-sha256": digest,
        **(headers or {}),
    }
    names = sorted(every)
    # S3 signs a path as it is sent, the others encode it once more.
    signed_path = path if service == "s3" else quote(path, safe="/~")
    canonical = [method, signed_path, text, *(f"{name}:{every[name]}" for name in names), "", ";".join(names), digest]
    scope = f"{date[:8]}/{os.environ['AWS_REGION']}/{service}/aws4_request"
    request_digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{request_digest}"
    key = b"AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    every["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={';'.join(names)}, Signature={key.hex()}"
    url = f"{endpoint}{path}" + (f"?{text}" if text else "")
    request = urllib.request.Request(url, body if method != "GET" else None, every, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        found: bytes = answer.read()
        return found
