"""What a shell completes: names that the server knows, quickly, and nothing at all where it does not answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from tests.parity.conftest import HELLO, ROLE, Platform
from tests.parity.test_sqs import client_of

from alcove.cli import naming
from alcove.cli.app import root
from alcove.cli.client import Client


def complete(*words: str, run: Path | None = None) -> list[str]:
    """Return what is offered for the last word."""
    options = [] if run is None else ["--run", str(run)]
    asked = ShellComplete(root, {}, "alcove", "_ALCOVE_COMPLETE")
    return [item.value for item in asked.get_completions([*words[:-1], *options], words[-1])]


@pytest.fixture
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("ALCOVE_RUN", str(platform.socket.parent))
    return platform


@pytest.fixture
def names(here: Platform, aws: Any) -> Iterator[list[str]]:
    """Functions around one another by name; the last has versions and an alias."""
    names = ["complete-a", "complete-b", "complete-b-2", "completed"]
    for name in names:
        aws.create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="echo", Code={"ZipFile": HELLO}, Publish=True
        )
    aws.create_alias(FunctionName="completed", Name="live", FunctionVersion="1")
    yield names
    for name in names:
        aws.delete_function(FunctionName=name)


def test_functions_versions_and_aliases(names: list[str]) -> None:
    assert complete("fn", "invoke", "complete-") == names[:3]
    assert complete("fn", "invoke", "complete-b") == names[1:3]
    assert set(names) <= set(complete("fn", "logs", ""))
    assert complete("fn", "invoke", "completed:") == ["completed:live", "completed:$LATEST", "completed:1"]
    assert complete("fn", "invoke", "completed", "--qualifier", "") == ["live", "$LATEST", "1"]
    assert complete("url", "add", "completed", "--qualifier", "l") == ["live"]
    assert complete("alias", "update", "completed", "") == ["live"]
    assert complete("alias", "create", "completed", "other", "") == ["1"]
    assert complete("fn", "events", "completed", "--on-failure", "function:complete-a") == ["function:complete-a"]
    assert complete("fn", "invoke", "complete-none:") == []


def test_a_shell_asks_a_process(names: list[str]) -> None:
    """As the script of ``alcove completion bash`` does."""
    asked = {"_ALCOVE_COMPLETE": "bash_complete", "COMP_WORDS": "alcove fn invoke complete-b", "COMP_CWORD": "3"}
    command = [sys.executable, "-c", "from alcove.cli import main; main()"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == (["plain,complete-b", "plain,complete-b-2"], "")


def test_queues_tenants_and_buckets(here: Platform) -> None:
    sqs, s3 = client_of(here), here.s3()
    url = sqs.create_queue(QueueName="complete-jobs")["QueueUrl"]
    s3.create_bucket(Bucket="complete-photos")
    try:
        assert complete("queue", "send", "complete-") == ["complete-jobs"]
        assert complete("mapping", "add", "qu") == ["queue:"]
        assert complete("mapping", "add", "queue:complete") == ["queue:complete-jobs"]
        assert complete("bucket", "ls", "complete-p") == ["complete-photos"]
        assert "other" in complete("tenant", "show", "")
        assert complete("usage", "--tenant", "oth") == ["other"]
    finally:
        sqs.delete_queue(QueueUrl=url)
        s3.delete_bucket(Bucket="complete-photos")


def test_instances_and_paths_in_them(here: Platform) -> None:
    client, names = Client(here.socket.parent), ["complete-web", "complete-web-2", "complete-xen"]
    for name in names:
        document = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        client.call("POST", "/alcove/v1/pods", document)
    try:
        for words in (("logs",), ("exec",), ("port-forward",), ("rm", "-f"), ("stop", "complete-web"), ("stats",)):
            assert complete(*words, "complete-w") == names[:2]
        assert complete("usage", "--instance", "complete-x") == names[2:]
        assert complete("cp", "complete-w") == ["complete-web:", "complete-web-2:"]
        # What no instance is called is a file of this host, which the shell knows itself.
        assert complete("cp", "complete-web:/etc", "./comp") == ["./comp"]
        assert complete("cp", "complete-web:/e") == []
    finally:
        for name in names:
            client.call("DELETE", f"/alcove/v1/pods/{name}?grace=0")


def test_the_folder_of_the_command_line_counts(
    names: list[str], here: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALCOVE_RUN", "/nowhere")
    assert complete("fn", "invoke", "complete-a") == []
    assert complete("fn", "invoke", "complete-a", run=here.socket.parent) == ["complete-a"]


def test_without_a_server_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALCOVE_RUN", str(tmp_path))
    monkeypatch.setattr(naming, "TIMEOUT_S", 0.05)
    asked = [("fn", "invoke", ""), ("logs", ""), ("queue", "send", ""), ("tenant", "show", ""), ("bucket", "ls", "")]
    assert [complete(*words) for words in asked] == [[], [], [], [], []]
    # Servers that take the connection and never answer.
    with socket.socket(socket.AF_UNIX) as api, socket.socket(socket.AF_UNIX) as s3:
        for listener, name in ((api, "api.sock"), (s3, "s3.sock")):
            listener.bind(str(tmp_path / name))
            listener.listen(8)
        assert [complete(*words) for words in asked] == [[], [], [], [], []]
    assert capfd.readouterr() == ("", "")
