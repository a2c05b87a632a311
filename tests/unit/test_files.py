"""Files and folders that are whole or not there, and for us alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from alcove.errors import CapacityError
from alcove.host.files import (
    UNFINISHED,
    building,
    instance_tag,
    private_folder,
    reap_unfinished,
    require_space,
    write_json,
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_private_folder_and_its_new_parents_are_private(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    folder = private_folder(tmp_path / "a" / "b")
    assert (mode(folder), mode(tmp_path / "a"), mode(tmp_path)) == (0o700, 0o700, 0o755)
    os.chmod(folder, 0o777)
    assert mode(private_folder(folder)) == 0o700


@pytest.mark.parametrize("target", ["there", "dangling"])
def test_a_planted_link_is_refused(tmp_path: Path, target: str) -> None:
    if target == "there":
        (tmp_path / target).mkdir(mode=0o755)
    (tmp_path / "planted").symlink_to(tmp_path / target)
    with pytest.raises(OSError):
        private_folder(tmp_path / "planted")
    if target == "there":
        assert mode(tmp_path / target) == 0o755
    else:
        assert not (tmp_path / target).exists()


def test_a_planted_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted").mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(OSError, match=f"belongs to user {owner}"):
        private_folder(tmp_path / "planted")


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        private_folder(tmp_path / "file")


def test_json_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"n": 1})
    assert mode(path) == 0o600

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_json(path, {"n": 2})
    assert json.loads(path.read_text()) == {"n": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError):
        write_json(path, object())


def test_a_build_is_there_or_not(tmp_path: Path) -> None:
    with building(tmp_path / "done") as work:
        (work / "file").write_text("x")
        assert not (tmp_path / "done").exists()
    assert (tmp_path / "done" / "file").read_text() == "x"

    def fail() -> None:
        with building(tmp_path / "failed") as work:
            (work / "file").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


def test_what_was_interrupted_is_reaped(tmp_path: Path) -> None:
    (tmp_path / f"{UNFINISHED}folder" / "deep").mkdir(parents=True)
    (tmp_path / f"{UNFINISHED}file").write_text("")
    (tmp_path / "kept").write_text("")
    reap_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    reap_unfinished(tmp_path / "absent")


def test_room_is_asked_for(tmp_path: Path) -> None:
    require_space(tmp_path, 1, "a test")
    with pytest.raises(CapacityError, match="not enough room for a test") as caught:
        require_space(tmp_path, 1 << 60, "a test")
    assert caught.value.hint


def test_the_tag_is_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert instance_tag(Path("state")) == instance_tag(tmp_path / "state")
    assert instance_tag(tmp_path / "state") != instance_tag(tmp_path / "other")
    assert len(instance_tag(tmp_path)) == 8
