"""The object store by stock aws-cli, as a person at a shell uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.parity.conftest import Platform

MIB = 1 << 20
# What the commands exit with when the service has refused: of s3api, and of s3.
REFUSED = (255, 254, 1)
CONFIG = """
[default]
s3 =
    multipart_threshold = 6MB
    multipart_chunksize = 5MB
"""


class Cli:
    """Runs ``aws s3 ...`` with this platform's endpoint and keys, and nothing of this machine's settings."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.folder = folder
        (folder / "config").write_text(CONFIG)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_ENDPOINT_URL_S3": platform.s3_endpoint(),
            "AWS_ACCESS_KEY_ID": platform.access_key,
            "AWS_SECRET_ACCESS_KEY": platform.secret,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-m", "awscli", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, input=stdin, timeout=120, check=False
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()
        )

    def __call__(self, line: str, *more: str, stdin: bytes = b"") -> str:
        done = self.run(*line.split(), *more, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def api(self, line: str, *more: str) -> Any:
        text = self(f"s3api {line}", *more)
        return json.loads(text) if text.strip() else None

    def refused(self, line: str, *more: str) -> str:
        done = self.run(*line.split(), *more)
        assert done.returncode in REFUSED
        return done.stderr


@pytest.fixture(scope="module")
def cli(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    cli = Cli(platform, tmp_path_factory.mktemp("cli"))
    cli("s3 mb s3://shell")
    yield cli
    cli("s3 rb s3://shell --force")
    assert "shell" not in cli("s3 ls")


def test_files_and_folders(cli: Cli) -> None:
    tree = cli.folder / "tree"
    (tree / "inner dir").mkdir(parents=True)
    (tree / "a.txt").write_text("a")
    (tree / "inner dir" / "ü.bin").write_bytes(bytes(range(256)))
    cli("s3 sync tree s3://shell/tree --quiet")
    listed = cli("s3 ls s3://shell/tree/ --recursive --summarize")
    assert "tree/inner dir/ü.bin" in listed
    assert "Total Objects: 2" in listed
    assert "PRE tree/" in cli("s3 ls s3://shell")
    assert cli("s3 sync tree s3://shell/tree") == "", "nothing has changed"
    cli("s3 sync s3://shell/tree back --quiet")
    assert (cli.folder / "back" / "inner dir" / "ü.bin").read_bytes() == bytes(range(256))
    (tree / "a.txt").unlink()
    assert "delete: s3://shell/tree/a.txt" in cli("s3 sync tree s3://shell/tree --delete")
    cli("s3 mv s3://shell/tree/", "s3://shell/moved/", "--recursive")
    assert cli("s3 rm s3://shell/moved/ --recursive").count("delete:") == 1


def test_a_big_file(cli: Cli) -> None:
    """In parts, each way, from store to store, and from standard input."""
    data = os.urandom(MIB) * 16
    (cli.folder / "big").write_bytes(data)
    cli("s3 cp big s3://shell/big --quiet")
    assert cli.api("head-object --bucket shell --key big")["ETag"].endswith('-4"')
    cli("s3 cp s3://shell/big s3://shell/again --quiet")
    cli("s3 cp s3://shell/again again --quiet")
    assert (cli.folder / "again").read_bytes() == data
    cli("s3 cp - s3://shell/stream --quiet --checksum-algorithm CRC64NVME", stdin=data)
    head = cli.api("head-object --bucket shell --key stream --checksum-mode ENABLED")
    assert (head["ContentLength"], head["ChecksumType"]) == (len(data), "FULL_OBJECT")
    assert cli("s3 mv big s3://shell/moved-in --quiet") == ""
    assert not (cli.folder / "big").exists()


def test_a_presigned_url(cli: Cli) -> None:
    cli("s3 cp - s3://shell/shared", stdin=b"for a friend")
    with urllib.request.urlopen(cli("s3 presign s3://shell/shared --expires-in 60").strip()) as answer:
        assert answer.read() == b"for a friend"


def test_calls_of_the_api(cli: Cli) -> None:
    (cli.folder / "body").write_bytes(b"0123456789")
    put = cli.api("put-object --bucket shell --key k --body body --checksum-algorithm CRC32C --metadata who=me")
    assert put["ChecksumCRC32C"] == "KAwGng=="
    cli.api("get-object --bucket shell --key k --range bytes=2-4 part")
    assert (cli.folder / "part").read_bytes() == b"234"
    assert cli.api("get-object-attributes --bucket shell --key k --object-attributes Checksum")["Checksum"] == {
        "ChecksumCRC32C": "KAwGng==",
        "ChecksumType": "FULL_OBJECT",
    }
    assert cli.api("copy-object --bucket shell --key k2 --copy-source shell/k --copy-source-if-match", put["ETag"])
    assert cli.api("get-object-tagging --bucket shell --key k2") == {"TagSet": []}
    assert cli.api("get-bucket-versioning --bucket shell") is None
    upload = cli.api("create-multipart-upload --bucket shell --key slow")
    assert {"AbortDate", "AbortRuleId"} <= upload.keys()
    assert [one["Key"] for one in cli.api("list-multipart-uploads --bucket shell")["Uploads"]] == ["slow"]
    cli.api("abort-multipart-upload --bucket shell --key slow --upload-id", upload["UploadId"])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("list-object-versions --bucket shell", "NotImplemented"),
        ("get-object --bucket shell --key none none", "NoSuchKey"),
    ],
)
def test_refusals(cli: Cli, line: str, code: str) -> None:
    assert f"({code})" in cli.refused(f"s3api {line}")
