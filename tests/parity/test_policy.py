"""The isolation policy as clients and the operator's commands see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from tests.kernels import bzimage
from tests.parity.conftest import HELLO, ROLE, Platform

from alcove.cli.app import root
from alcove.errors import AlcoveError, Conflict


def alcove(platform: Platform, *words: str) -> Any:
    """Run a command with --json; return what it printed."""
    result = CliRunner().invoke(root, [*words, "--run", str(platform.socket.parent), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_version_shows_where_it_runs_and_why(platform: Platform, aws: Any, cfc: Any, function: str) -> None:
    shown = alcove(platform, "fn", "show", function)["Configuration"]
    reason = "the rules' default is vm"
    assert (shown["Isolation"], shown["IsolationCase"], shown["IsolationReason"]) == ("vm", "default", reason)
    assert alcove(platform, "fn", "list")[0]["IsolationReason"] == reason
    start = aws.invoke(FunctionName=function, Payload=b"1")["ResponseMetadata"]["HTTPHeaders"]["x-alcove-start"]
    assert reason in start
    found = alcove(platform, "policy", "explain", function)
    assert found["demands"] == [{"isolation": "vm", "case": "default", "number": None, "reason": reason}]


def test_a_wish_is_refused_where_it_would_lower(aws: Any, function: str) -> None:
    arn = aws.get_function_configuration(FunctionName=function)["FunctionArn"]
    with pytest.raises(ClientError) as error:
        aws.tag_resource(Resource=arn, Tags={"alcove:isolation": "process"})
    assert error.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert "alcove:isolation" not in aws.list_tags(Resource=arn)["Tags"]
    aws.tag_resource(Resource=arn, Tags={"alcove:isolation": "vm"})


def test_the_operator_sees_the_rules_and_sets_floors(platform: Platform) -> None:
    shown = alcove(platform, "policy", "show")
    assert (shown["rules"]["default"], shown["floor"], shown["tiers"]) == ("vm", "process", ["vm"])
    assert alcove(platform, "policy", "floor", "vm", "--tenant", "other") == {"floor": "vm"}
    assert alcove(platform, "policy", "floor", "--tenant", "other") == {"floor": "vm"}
    assert alcove(platform, "policy", "floor") == {"floor": "process"}
    assert alcove(platform, "policy", "floor", "process", "--tenant", "other") == {"floor": "process"}


def test_a_rules_file_is_checked_without_a_server(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[languages]\nsafe = ['nodejs*']\n")
    assert "names the tiers vm" in CliRunner().invoke(root, ["policy", "check", str(path)]).stdout
    path.write_text("[languages]\nsaffe = ['nodejs*']\n")
    result = CliRunner().invoke(root, ["policy", "check", str(path)])
    assert isinstance(result.exception, AlcoveError)
    assert f"{path}:2: there is no languages.saffe" in str(result.exception)


def test_create_function_with_a_wish(aws: Any) -> None:
    made = aws.create_function(
        FunctionName="wishes",
        Runtime="python3.11",
        Role=ROLE,
        Handler="echo",
        Code={"ZipFile": HELLO},
        Tags={"alcove:isolation": "vm"},
    )
    aws.delete_function(FunctionName=made["FunctionName"])


def test_kernels_are_the_operators_to_register_and_anybodys_to_choose(
    platform: Platform, aws: Any, tmp_path: Path
) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage("6.1.0-mine"))
    made = alcove(platform, "kernel", "add", "mine", "--vmlinuz", str(tmp_path / "vmlinuz"), "--append", "quiet")
    assert (made["release"], made["append"]) == ("6.1.0-mine", "quiet")
    assert alcove(platform, "kernel", "list") == [made]
    options = {"Runtime": "python3.11", "Role": ROLE, "Handler": "echo", "Code": {"ZipFile": HELLO}}
    created = aws.create_function(FunctionName="own-kernel", Tags={"alcove:kernel": "mine"}, **options)
    shown = alcove(platform, "fn", "show", "own-kernel")["Configuration"]
    assert (shown["Kernel"], shown["IsolationCase"]) == (made["digest"], "kernel")
    run = ["--run", str(platform.socket.parent)]
    assert isinstance(CliRunner().invoke(root, ["kernel", "remove", "mine", *run]).exception, Conflict)
    aws.delete_function(FunctionName=created["FunctionName"])
    assert CliRunner().invoke(root, ["kernel", "remove", "mine", *run]).exit_code == 0
    with pytest.raises(ClientError, match="alcove:kernel"):
        aws.create_function(FunctionName="own-kernel", Tags={"alcove:kernel": "mine"}, **options)


def test_findings_without_checks(platform: Platform, function: str) -> None:
    found = alcove(platform, "fn", "show", function, "--findings")
    assert (found["state"], found["findings"]) == ("off", [])
