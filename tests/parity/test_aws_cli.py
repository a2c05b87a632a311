"""Stock aws-cli, as a person at a shell uses it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.parity.conftest import HELLO, ROLE, Platform

# What the command exits with when the service has refused.
REFUSED = 255


class Cli:
    """Runs ``aws lambda ...`` with this platform's endpoint and keys, and nothing of this machine's settings."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_ENDPOINT_URL_LAMBDA": platform.url,
            "AWS_ACCESS_KEY_ID": platform.access_key,
            "AWS_SECRET_ACCESS_KEY": platform.secret,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_MAX_ATTEMPTS": "1",
            # Botocore signs by itself here; elsewhere the CRT does, which Alcove depends on.
            "BOTO_DISABLE_CRT": "true",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-m", "awscli", "lambda", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )

    def __call__(self, *arguments: str) -> Any:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture
def cli(platform: Platform, tmp_path: Path) -> Cli:
    (tmp_path / "code.zip").write_bytes(HELLO)
    return Cli(platform, tmp_path)


def test_the_life_of_a_function(cli: Cli) -> None:
    name = ("--function-name", "cli-life")
    made = cli(
        *("create-function", *name, "--runtime", "python3.11", "--role", ROLE, "--handler", "echo"),
        *("--zip-file", "fileb://code.zip", "--environment", "Variables={AA=1}", "--tags", "team=blue"),
    )
    assert (made["FunctionName"], made["State"]) == ("cli-life", "Active")
    assert made["Environment"]["Variables"] == {"AA": "1"}
    cli("wait", "function-active-v2", *name)
    answer = cli("invoke", *name, "--payload", '{"a": 1}', "--log-type", "Tail", "answer.json")
    assert json.loads((cli.folder / "answer.json").read_text()) == {"a": 1}
    assert "START RequestId" in base64.b64decode(answer["LogResult"]).decode()
    assert cli("update-function-configuration", *name, "--timeout", "9")["Timeout"] == 9
    cli("wait", "function-updated-v2", *name)
    assert cli("publish-version", *name, "--description", "one")["Version"] == "1"
    assert [one["Version"] for one in cli("list-versions-by-function", *name)["Versions"]] == ["$LATEST", "1"]
    assert cli("list-tags", "--resource", made["FunctionArn"])["Tags"] == {"team": "blue"}
    url = cli("create-function-url-config", *name, "--auth-type", "NONE", "--cors", "AllowOrigins=*,MaxAge=60")
    assert cli("get-function-url-config", *name)["FunctionUrl"] == url["FunctionUrl"]
    assert len(cli("list-function-url-configs", *name)["FunctionUrlConfigs"]) == 1
    cli("delete-function-url-config", *name)
    assert "cli-life" in [one["FunctionName"] for one in cli("list-functions")["Functions"]]
    cli("delete-function", *name)


def test_refusals(cli: Cli) -> None:
    done = cli.run("get-function", "--function-name", "nobody")
    assert done.returncode == REFUSED
    assert "(ResourceNotFoundException)" in done.stderr
    done = cli.run(
        *("create-function", "--function-name", "cli-bad", "--runtime", "python2.4", "--role", ROLE),
        *("--handler", "echo", "--zip-file", "fileb://code.zip"),
    )
    assert done.returncode == REFUSED
    assert "(InvalidParameterValueException)" in done.stderr
