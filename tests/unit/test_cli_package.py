"""Folders become packages: equal bytes for equal content, without what should stay out."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from alcove.cli import package
from alcove.errors import InvalidRequest, TooLarge


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def names(folder: Path) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(package.pack(folder).data)).namelist()


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", "b.py", "a/c.py", "a.py")
    two = tree(tmp_path / "two", "a.py", "a/c.py", "b.py")
    os.utime(one / "a.py", (0, 0))
    assert package.pack(one).data == package.pack(two).data
    assert package.pack(one).files == 3


def test_only_the_execute_bit_is_kept(tmp_path: Path) -> None:
    folder = tree(tmp_path, "bootstrap", "data")
    (folder / "bootstrap").chmod(0o700)
    (folder / "data").chmod(0o600)
    archive = zipfile.ZipFile(io.BytesIO(package.pack(folder).data))
    modes = {info.filename: stat.S_IMODE(info.external_attr >> 16) for info in archive.infolist()}
    assert modes == {"bootstrap": 0o755, "data": 0o644}


def test_what_never_belongs_in_a_package_stays_out(tmp_path: Path) -> None:
    tree(tmp_path, "app.py", ".git/config", "a/__pycache__/x.pyc", "a/x.pyc", "a/b.py")
    assert names(tmp_path) == ["app.py", "a/b.py"]


def test_alcoveignore_adds_patterns_and_takes_back(tmp_path: Path) -> None:
    tree(tmp_path, "app.py", "tests/t.py", "a/note.md", "README.md", "a/b/skip.txt", "tests.py")
    (tmp_path / ".alcoveignore").write_text("# no tests\ntests/\n*.md\n!README.md\na/b/skip.txt\n")
    assert names(tmp_path) == ["README.md", "app.py", "tests.py"]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tree(tmp_path / "f", "app.py")
    (tmp_path / "secret").write_text("key")
    (folder / "leak").symlink_to("../secret")
    with pytest.raises(InvalidRequest, match="leads out"):
        package.pack(folder)


def test_a_link_to_a_folder_is_refused_rather_than_lost(tmp_path: Path) -> None:
    folder = tree(tmp_path, "a/x.py")
    (folder / "b").symlink_to("a")
    with pytest.raises(InvalidRequest, match="link to a folder"):
        package.pack(folder)


def test_a_link_to_a_file_inside_becomes_the_file(tmp_path: Path) -> None:
    folder = tree(tmp_path, "a.py")
    (folder / "b.py").symlink_to("a.py")
    archive = zipfile.ZipFile(io.BytesIO(package.pack(folder).data))
    assert archive.read("b.py") == b"a.py"


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest, match="not a plain file"):
        package.pack(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no files"):
        package.pack(tmp_path)


def test_a_zip_goes_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "code.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("app.py", "")
    assert package.pack(path).data == path.read_bytes()


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InvalidRequest, match="not a zip"):
        package.pack(tmp_path / "notes.txt")
    with pytest.raises(InvalidRequest, match="can't be read"):
        package.pack(tmp_path / "none.zip")


def test_a_package_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "PACKAGE_LIMIT", 100)
    with pytest.raises(TooLarge):
        package.pack(tree(tmp_path, "app.py"))
