"""S3's calls on whom to tell of a bucket's changes."""

from __future__ import annotations

import uuid
from typing import Any
from xml.etree.ElementTree import Element

from alcove.api import s3_xml
from alcove.api.s3_call import S3Call
from alcove.buckets import rules
from alcove.buckets.errors import BadArgument
from alcove.buckets.permission import SERVICE, caller, source_arn
from alcove.buckets.rules import Rule
from alcove.errors import AlcoveError
from alcove.functions import names
from alcove.gateway.message import Response

_OTHERS = ("TopicConfiguration", "QueueConfiguration", "EventBridgeConfiguration")


async def put_notification(call: S3Call) -> Response:
    root = s3_xml.parse(await call.document(), "NotificationConfiguration")
    for other in _OTHERS:
        if s3_xml.children(root, other):
            raise BadArgument(f"{other} is not offered here.", hint="use LambdaFunctionConfigurations")
    found = [_rule(call, one) for one in s3_xml.children(root, "CloudFunctionConfiguration")]
    if call.header("x-amz-skip-destination-validation") != "true":
        for rule in found:
            await _check_destination(call, rule)
    await call.service.set_rules(call.tenant, call.bucket, found)
    return Response(200)


async def get_notification(call: S3Call) -> Response:
    bucket = await call.service.bucket(call.tenant, call.bucket)
    shown = [("CloudFunctionConfiguration", _described(call, rule)) for rule in rules.load(bucket.notification)]
    return s3_xml.document("NotificationConfiguration", shown)


def _rule(call: S3Call, element: Element) -> Rule:
    arn = s3_xml.text(element, "CloudFunction")
    try:
        reference = names.parse(arn, None)
        reference.check_owner(call.tenant)
    except AlcoveError as error:
        raise BadArgument(f"The function's ARN is not well formed, or not yours: {arn[:200]}") from error
    filters = {"prefix": "", "suffix": ""}
    for group in s3_xml.children(element, "Filter"):
        for key in s3_xml.children(group, "S3Key"):
            for rule in s3_xml.children(key, "FilterRule"):
                name = s3_xml.text(rule, "Name").lower()
                if name not in filters:
                    raise BadArgument("filter rule name must be either prefix or suffix")
                filters[name] = s3_xml.text(rule, "Value")
    return Rule(
        id=s3_xml.text(element, "Id") or str(uuid.uuid4()),
        events=tuple(one.text or "" for one in s3_xml.children(element, "Event")),
        function=reference.name,
        qualifier=reference.version,
        **filters,
    )


async def _check_destination(call: S3Call, rule: Rule) -> None:
    """The function exists, and lets the bucket call it. Raises ``BadArgument``."""
    message = f"Unable to validate the following destination configurations: {rule.function}"
    try:
        await call.functions.resolve(call.tenant, rule.function, rule.qualifier)
    except AlcoveError as error:
        raise BadArgument(message, hint="deploy the function first") from error
    asking = caller(source_arn(call.bucket), call.tenant)
    if not await call.may(call.tenant, rule.function, rule.qualifier, asking):
        raise BadArgument(message, hint=f"AddPermission: lambda:InvokeFunction for {SERVICE}, of this bucket's ARN")


def _described(call: S3Call, rule: Rule) -> list[tuple[str, Any]]:
    arn = f"arn:aws:lambda:{call.service.region}:{call.tenant}:function:{rule.function}"
    if rule.qualifier and rule.qualifier != "$LATEST":
        arn += f":{rule.qualifier}"
    filters = [("prefix", rule.prefix), ("suffix", rule.suffix)]
    shown = [("FilterRule", [("Name", name.title()), ("Value", value)]) for name, value in filters if value]
    return [
        ("Id", rule.id),
        ("CloudFunction", arn),
        *(("Event", event) for event in rule.events),
        *([("Filter", [("S3Key", shown)])] if shown else []),
    ]
