"""The disk of the state folder is full: clear errors, nothing half-done, and all is well when there is room again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.service.conftest import STATE, package
from tests.service.server import Server, is_clean
from tests.service.test_recovery import create, invoke


class SmallDisk:
    """A file system of the test's own, whose size can be changed while it is in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.filler = path / "filler"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8g,mode=0700", "tmpfs", path], check=True)

    def fill(self) -> None:
        """Leave no room."""
        found = os.statvfs(self.path)
        self._resize((found.f_blocks - found.f_bfree) * found.f_frsize + (16 << 20))
        with self.filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass

    def empty(self) -> None:
        self._resize(8 << 30)
        self.filler.unlink(missing_ok=True)

    def _resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    # Not pytest's folder: the paths of sockets in it would be too long.
    path = Path(tempfile.mkdtemp(prefix="alcove-disk-"))
    disk = SmallDisk(path)
    yield disk
    disk.unmount()
    path.rmdir()


@pytest.fixture
def own(tmp_path: Path, disk: SmallDisk, server: Server) -> Iterator[Server]:
    state = disk.path / "state"
    for folder in ("images/guest", "templates"):
        (state / folder).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--sparse=always", STATE / folder, state / folder], check=True)
    own = Server(state, tmp_path / "run", "--pool-python", "0", "--pool-nodejs", "0", "--pool-provided", "0")
    own.start()
    yield own
    disk.empty()
    own.stop()
    assert own.leftovers()["mounts"] == [], "only the disk itself may be mounted"
    assert is_clean(own.leftovers()), own.leftovers()


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    """Return the message of a refusal for want of room."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **options)
    assert caught.value.response["Error"]["Code"] == "EC2ThrottledException"
    return str(caught.value.response["Error"]["Message"])


def files(own: Server) -> set[str]:
    folder = own.state / "images/code"
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_full_disk_is_told_and_nothing_is_half_done(own: Server, disk: SmallDisk) -> None:
    aws = own.client()
    create(aws, "before")
    token = invoke(aws, "before")
    built = files(own)
    disk.fill()
    assert "room" in refused(create, aws, "during")
    new = package({"app.py": "def handler(event, context):\n    return 'new'\n"})
    assert "room" in refused(aws.update_function_code, FunctionName="before", ZipFile=new)
    assert files(own) == built
    assert [one["FunctionName"] for one in aws.list_functions()["Functions"]] == ["before"]
    # What runs goes on, although its log cannot be written.
    assert invoke(aws, "before") == token
    disk.empty()
    create(aws, "after")
    assert invoke(aws, "after")
    assert invoke(aws, "before") == token
    assert "Traceback" not in own.log.read_text()


def test_control_state_that_cannot_be_written_is_as_it_was(own: Server, disk: SmallDisk) -> None:
    aws = own.client()
    create(aws, "kept")
    disk.fill()
    answers = []
    written = None
    # The write-ahead log has room for some changes still.
    for number in range(2000):
        variables = {"NUMBER": str(number), "FILLER": "x" * 3000}
        try:
            aws.update_function_configuration(FunctionName="kept", Environment={"Variables": variables})
        except ClientError as error:
            answers.append(error.response["Error"])
            break
        written = str(number)
    (answer,) = answers
    assert answer["Code"] == "EC2ThrottledException"
    assert "room" in answer["Message"]
    found = aws.get_function_configuration(FunctionName="kept")["Environment"]["Variables"]
    assert found.get("NUMBER") == written
    disk.empty()
    aws.update_function_configuration(FunctionName="kept", Environment={"Variables": {"NUMBER": "last"}})
    assert aws.get_function_configuration(FunctionName="kept")["Environment"]["Variables"] == {"NUMBER": "last"}
    assert "Traceback" not in own.log.read_text()


def test_a_start_for_which_there_is_no_room_leaves_nothing(own: Server, disk: SmallDisk) -> None:
    aws = own.client()
    create(aws, "cold")
    disk.fill()
    assert "room" in refused(aws.invoke, FunctionName="cold")
    assert not own.leftovers()["machines"]
    assert not own.leftovers()["records"]
    disk.empty()
    assert invoke(aws, "cold")
    assert "Traceback" not in own.log.read_text()
