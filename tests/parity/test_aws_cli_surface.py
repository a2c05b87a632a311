"""Every ``aws lambda`` command of stock aws-cli, with what ``test_aws_surface`` asks by boto3.

The commands run in this process: a process each would take a second.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from awscli.clidriver import create_clidriver
from botocore import xform_name
from tests.parity.conftest import HELLO, Platform
from tests.parity.test_aws_surface import CASES, MODEL, World
from tests.parity.test_aws_surface import world as world

# The command leaves its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

REFUSED = 255
# Of the table, what the command line has no command for: it does not read event streams.
ABSENT = {"InvokeWithResponseStream"}
OUTPUT_FILES = {"Invoke"}


class Cli:
    """Runs ``aws lambda ...``; its settings are those of the platform and nothing of this machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "code.zip").write_bytes(HELLO)
        self._driver = create_clidriver()

    @property
    def commands(self) -> set[str]:
        return set(self._driver._get_command_table()["lambda"]._get_command_table())

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = self._driver.main(["lambda", *arguments])
        return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def cli(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("aws")
    environment = {
        "HOME": str(folder),
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_ENDPOINT_URL_LAMBDA": platform.url,
        "AWS_ACCESS_KEY_ID": platform.access_key,
        "AWS_SECRET_ACCESS_KEY": platform.secret,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_PAGER": "",
    }
    with mock.patch.dict("os.environ", environment):
        yield Cli(folder)


def command(operation: str) -> str:
    return xform_name(operation, "-")


def arguments(operation: str, given: dict[str, Any], folder: Path) -> list[str]:
    """Return what says ``given`` on a command line: bytes by their file where the command reads one."""
    found = []
    for name, value in given.items():
        if name == "ZipFile" or (name == "Code" and "ZipFile" in value) or name == "Content":
            found += ["--zip-file", f"fileb://{folder / 'code.zip'}"]
        elif isinstance(value, bytes):
            (folder / "bytes").write_bytes(value)
            plain = name == "InvokeArgs"
            found += [f"--{command(name)}", str(folder / "bytes") if plain else f"fileb://{folder / 'bytes'}"]
        elif isinstance(value, bool):
            found.append(f"--{command(name)}" if value else f"--no-{command(name)}")
        else:
            found += [f"--{command(name)}", value if isinstance(value, str) else json.dumps(value)]
    return found + ([str(folder / "answer")] if operation in OUTPUT_FILES else [])


def test_every_command_is_in_the_table(cli: Cli) -> None:
    known = {command(operation) for operation in MODEL.operation_names} - {command(one) for one in ABSENT}
    assert known <= cli.commands
    assert cli.commands - known <= {"wait", "help"}


@pytest.mark.parametrize("operation", [operation for operation in CASES if operation not in ABSENT])
def test_every_command(world: World, cli: Cli, operation: str) -> None:
    options, code = CASES[operation]
    status, out, err = cli(command(operation), *arguments(operation, options(world), cli.folder))
    if code:
        assert (status, f"({code})" in err) == (REFUSED, True), (out, err)
        return
    assert status == 0, err
    assert not out.strip() or isinstance(json.loads(out), dict)


def test_lists_come_whole_and_in_pages(world: World, cli: Cli) -> None:
    name = ("--function-name", world.name)
    _, whole, _ = cli("list-versions-by-function", *name)
    _, small, _ = cli("list-versions-by-function", *name, "--page-size", "1")
    assert json.loads(whole) == json.loads(small)
    _, first, _ = cli("list-aliases", *name, "--max-items", "1")
    _, second, _ = cli("list-aliases", *name, "--starting-token", json.loads(first)["NextToken"])
    names = [one["Name"] for page in (first, second) for one in json.loads(page)["Aliases"]]
    assert names == ["live", "next"]


def test_an_invocation_shows_its_log_and_error(world: World, cli: Cli) -> None:
    name = ("--function-name", world.name)
    status, out, _ = cli("invoke", *name, "--payload", "1", "--log-type", "Tail", str(cli.folder / "answer"))
    assert status == 0
    assert "START RequestId" in base64.b64decode(json.loads(out)["LogResult"]).decode()
    for kind, code in (("Event", 202), ("DryRun", 204)):
        _, out, _ = cli("invoke", *name, "--invocation-type", kind, "--payload", "1", str(cli.folder / "answer"))
        assert json.loads(out)["StatusCode"] == code
