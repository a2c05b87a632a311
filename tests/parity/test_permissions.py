"""Policies through stock boto3: kept and shown as AWS writes them, and what another account may do by them."""

from __future__ import annotations

import json
from typing import Any

from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.test_boto3 import refused
from tests.parity.test_function_urls import call, signed

INVOKE = "lambda:InvokeFunction"
INVOKE_URL = "lambda:InvokeFunctionUrl"


def account_of(client: Any) -> str:
    """Every answer about a function names its owner."""
    client.create_function(FunctionName="who", Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO})
    arn = client.get_function_configuration(FunctionName="who")["FunctionArn"]
    client.delete_function(FunctionName="who")
    return str(arn.split(":")[4])


def test_the_life_of_a_policy(aws: Any, function: str) -> None:
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    assert refused(aws.get_policy, FunctionName=function)[:2] == ("ResourceNotFoundException", 404)
    bucket = {"SourceArn": "arn:aws:s3:::pictures", "SourceAccount": "123456789012"}
    made = aws.add_permission(
        FunctionName=function, StatementId="uploads", Action=INVOKE, Principal="s3.amazonaws.com", **bucket
    )
    wanted = {
        "Sid": "uploads",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": INVOKE,
        "Resource": arn,
        "Condition": {
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::pictures"},
            "StringEquals": {"AWS:SourceAccount": "123456789012"},
        },
    }
    assert json.loads(made["Statement"]) == wanted
    found = aws.get_policy(FunctionName=function)
    assert json.loads(found["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [wanted]}
    again = {"FunctionName": function, "StatementId": "uploads", "Action": INVOKE, "Principal": "*"}
    assert refused(aws.add_permission, **again)[:2] == ("ResourceConflictException", 409)
    stale = {**again, "StatementId": "other", "RevisionId": "stale"}
    assert refused(aws.add_permission, **stale)[:2] == ("PreconditionFailedException", 412)
    aws.add_permission(**{**stale, "RevisionId": found["RevisionId"]})
    for statement in ("uploads", "other"):
        aws.remove_permission(FunctionName=function, StatementId=statement)
    gone = {"FunctionName": function, "StatementId": "other"}
    assert refused(aws.remove_permission, **gone)[:2] == ("ResourceNotFoundException", 404)


def test_a_policy_is_written_as_a_whole(aws: Any, platform: Platform, function: str) -> None:
    friend = platform.aws(platform.other_access_key, platform.other_secret)
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    aws.add_permission(FunctionName=function, StatementId="before", Action=INVOKE, Principal="*")
    before = aws.get_resource_policy(ResourceArn=arn)
    statement = {
        "Sid": "ours",
        "Effect": "Allow",
        "Principal": {"AWS": [account_of(friend), "999999999999"], "Service": "s3.amazonaws.com"},
        "Action": ["lambda:GetFunction", INVOKE],
        "Resource": arn,
    }
    wanted = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stale = {"ResourceArn": arn, "Policy": wanted, "RevisionId": "0" * 8 + "-0000-0000-0000-" + "0" * 12}
    assert refused(aws.put_resource_policy, **stale)[:2] == ("PreconditionFailedException", 412)
    put = aws.put_resource_policy(ResourceArn=arn, Policy=wanted, RevisionId=before["RevisionId"])
    shown = aws.get_policy(FunctionName=function)
    assert (shown["Policy"], shown["RevisionId"]) == (put["Policy"], put["RevisionId"])
    (found,) = json.loads(put["Policy"])["Statement"]
    assert found == {
        **statement,
        "Principal": {
            "AWS": [f"arn:aws:iam::{account_of(friend)}:root", "arn:aws:iam::999999999999:root"],
            "Service": "s3.amazonaws.com",
        },
    }
    assert friend.invoke(FunctionName=arn, Payload=b"1")["Payload"].read() == b"1"
    # Statements go on one at a time, beside those that came as a whole.
    aws.add_permission(FunctionName=function, StatementId="more", Action=INVOKE, Principal="sns.amazonaws.com")
    aws.remove_permission(FunctionName=function, StatementId="ours")
    assert refused(friend.invoke, FunctionName=arn)[:2] == ("ResourceNotFoundException", 404)
    again = aws.get_resource_policy(ResourceArn=arn)
    aws.put_resource_policy(ResourceArn=arn, Policy=again["Policy"], RevisionId=again["RevisionId"])
    assert aws.get_resource_policy(ResourceArn=arn) | {"ResponseMetadata": 0} == again | {"ResponseMetadata": 0}
    assert refused(aws.delete_resource_policy, ResourceArn=arn, RevisionId=stale["RevisionId"])[1] == 412
    aws.delete_resource_policy(ResourceArn=arn, RevisionId=again["RevisionId"])
    for gone in (aws.get_resource_policy, aws.delete_resource_policy):
        assert refused(gone, ResourceArn=arn)[:2] == ("ResourceNotFoundException", 404)
    assert refused(friend.put_resource_policy, ResourceArn=arn, Policy=wanted)[1] == 404
    qualified = {"ResourceArn": f"{arn}:nobody", "Policy": wanted}
    assert refused(aws.put_resource_policy, **qualified)[:2] == ("ResourceNotFoundException", 404)


def test_refusals(aws: Any, function: str) -> None:
    def add(**changes: Any) -> str:
        wanted = {"FunctionName": function, "StatementId": "s", "Action": INVOKE, "Principal": "*", **changes}
        return refused(aws.add_permission, **wanted)[0]

    assert add(Principal="two words") == "InvalidParameterValueException"
    assert add(Action="s3:GetObject") == "InvalidParameterValueException"
    assert add(Qualifier="$LATEST") == "InvalidParameterValueException"
    assert add(Qualifier="nobody") == "ResourceNotFoundException"
    assert add(FunctionName="no-such") == "ResourceNotFoundException"
    assert refused(aws.get_policy, FunctionName=function)[0] == "ResourceNotFoundException"


def test_another_account_calls_what_it_may(aws: Any, platform: Platform, function: str) -> None:
    arn = aws.get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    other = platform.aws(platform.other_access_key, platform.other_secret)
    account = account_of(other)
    assert refused(other.invoke, FunctionName=arn)[:2] == ("ResourceNotFoundException", 404)
    aws.add_permission(FunctionName=function, StatementId="friend", Action=INVOKE, Principal=account)
    assert other.invoke(FunctionName=arn, Payload=b"1")["Payload"].read() == b"1"
    assert other.invoke(FunctionName=arn, InvocationType="Event", Payload=b"1")["StatusCode"] == 202
    # To call it is all that it may; and only by the name that the statement is about.
    aws.publish_version(FunctionName=function)
    assert refused(other.invoke, FunctionName=f"{arn}:1")[:2] == ("ResourceNotFoundException", 404)
    for operation in (other.get_function, other.delete_function, other.get_policy, other.list_aliases):
        assert refused(operation, FunctionName=arn)[:2] == ("ResourceNotFoundException", 404)
    aws.remove_permission(FunctionName=function, StatementId="friend")
    assert refused(other.invoke, FunctionName=arn)[:2] == ("ResourceNotFoundException", 404)


def test_another_account_calls_a_url_that_it_may(aws: Any, platform: Platform, function: str) -> None:
    url = aws.create_function_url_config(FunctionName=function, AuthType="AWS_IAM")["FunctionUrl"]
    theirs = (platform.other_access_key, platform.other_secret)
    account = account_of(platform.aws(*theirs))

    def status() -> int:
        return int(call(platform, url, "POST", "/", body="1", headers=signed(url, "POST", "1", *theirs)).status)

    assert status() == 403
    allow = {"FunctionName": function, "Principal": account}
    # To invoke the function is another thing than to call its URL, and of URLs this one is signed.
    aws.add_permission(**allow, StatementId="a", Action=INVOKE)
    aws.add_permission(**allow, StatementId="b", Action=INVOKE_URL, FunctionUrlAuthType="NONE")
    assert status() == 403
    aws.add_permission(**allow, StatementId="c", Action=INVOKE_URL, FunctionUrlAuthType="AWS_IAM")
    assert status() == 200
    aws.remove_permission(FunctionName=function, StatementId="c")
    assert status() == 403
