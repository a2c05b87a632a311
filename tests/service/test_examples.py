"""The reference loads, run as a user runs them: their own scripts against a running server."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.server import Server

EXAMPLES = Path("examples").resolve()


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    return server.client("s3")


@pytest.fixture
def clean(server: Server, aws: Any, s3: Any) -> Iterator[None]:
    """What an example makes is removed after it: the state folder is kept between runs."""
    yield
    for one in s3.list_buckets()["Buckets"]:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=one["Name"]):
            for found in page.get("Contents", []):
                s3.delete_object(Bucket=one["Name"], Key=found["Key"])
        s3.delete_bucket(Bucket=one["Name"])
    for one in aws.list_functions()["Functions"]:
        aws.delete_function(FunctionName=one["FunctionName"])


def run(server: Server, example: str, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "ALCOVE_RUN": str(server.run), **environment}
    ended = subprocess.run(
        [str(EXAMPLES / example / "run")], env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert ended.returncode == 0, f"{ended.stdout}\n--- the server:\n{server.tail()}"
    return ended.stdout


@pytest.mark.usefixtures("clean")
def test_a_build_of_a_game_becomes_one_archive(server: Server, s3: Any) -> None:
    run(server, "game-packaging")
    archive = io.BytesIO(s3.get_object(Bucket="game-packages", Key="rocks-1.0.zip")["Body"].read())
    with zipfile.ZipFile(archive) as packed:
        assert sorted(packed.namelist()) == ["build.json", "maps/level1.map", "maps/level2.map", "maps/level3.map"]
        assert packed.read("maps/level2.map") == b"2" * 20_000


@pytest.mark.usefixtures("clean")
def test_pictures_are_tagged_by_a_compiled_wheel(server: Server, s3: Any) -> None:
    run(server, "media-tagging")
    tags = json.loads(s3.get_object(Bucket="picture-tags", Key="flags/flag.bmp.json")["Body"].read())
    assert tags == {"key": "flags/flag.bmp", "format": "BMP", "width": 240, "height": 160, "colours": ["red", "blue"]}
    thumbnail = s3.get_object(Bucket="picture-tags", Key="flags/flag.bmp.thumbnail.jpg")
    assert thumbnail["Body"].read(3) == b"\xff\xd8\xff"


@pytest.mark.usefixtures("clean")
def test_a_registry_is_mirrored_by_timer_batches_and_bucket(server: Server, s3: Any) -> None:
    printed = run(server, "npm-mirror")
    assert "200 packages are mirrored" in printed
    assert "served: {'name': 'package-00050', 'version': '1.1.0'}" in printed
    index = json.loads(s3.get_object(Bucket="npm-mirror", Key="index.json")["Body"].read())
    assert (len(index), list(index.values()).count("1.1.0")) == (10_000, 200)


@pytest.mark.timeout(600)
def test_twenty_thousand_skills_are_called_as_people_do(server: Server) -> None:
    try:
        answer = json.loads(run(server, "voice-skill", SKILLS="20000", CALLS="60").splitlines()[-1])
    finally:
        for number in range(20):
            server.call("DELETE", f"/alcove/v1/tenants/developer-{number}?force=true")
    assert (answer["functions"], answer["calls"], answer["wrong"]) == (20_000, 60, 0)
    assert 1 < answer["skills_called"] < 60
    # What is called often is warm.
    assert answer["starts"]["warm"] > 60 // 3
