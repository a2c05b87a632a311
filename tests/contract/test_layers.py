"""Layers as block images are what the host's overlayfs shows of the folders: compared entry by entry."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from alcove.errors import InvalidRequest
from alcove.host.files import UNFINISHED
from alcove.images.layers import LayerStore

pytestmark = pytest.mark.machine


@contextmanager
def mounted(*arguments: object) -> Iterator[None]:
    subprocess.run(["mount", *map(str, arguments)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(arguments[-1])], check=True)


@contextmanager
def overlay(layers: list[Path], target: Path) -> Iterator[Path]:
    """Show the layers, the lowest first, one upon the other."""
    target.mkdir()
    lower = ":".join(str(path) for path in reversed(layers))
    with mounted("-t", "overlay", "-o", f"ro,lowerdir={lower}", "overlay", target):
        yield target


def entries(root: Path) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    for base, folders, files in os.walk(os.fsencode(root)):
        for name in [*folders, *files]:
            path = os.path.join(base, name)
            status = os.lstat(path)
            held: Any = status.st_rdev
            if stat.S_ISREG(status.st_mode):
                held = (status.st_size, Path(os.fsdecode(path)).read_bytes(), status.st_nlink)
            elif stat.S_ISLNK(status.st_mode):
                held = os.readlink(path)
            attributes = {}
            for key in os.listxattr(path, follow_symlinks=False):
                attributes[key] = os.getxattr(path, key, follow_symlinks=False)
            what = (status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), held, attributes)
            found[os.path.relpath(path, os.fsencode(root))] = what
    return found


def lower_layer(folder: Path) -> None:
    folder.mkdir()
    for name in ("keep", "gone", "changed", "hidden", "setuid", "..data"):
        (folder / name).write_bytes(name.encode() * 1000)
    (folder / "setuid").chmod(0o4755)
    os.link(folder / "keep", folder / "linked")
    (folder / "link").symlink_to("/etc/../keep")
    (folder / "opaque").mkdir()
    (folder / "opaque/below").write_text("below")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(folder / "changed", 1234, 5678)
    os.setxattr(folder / "keep", "user.note", b"kept")
    os.setxattr(folder / "setuid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    with open(os.fsencode(folder) + b"/odd \xff\n name", "wb") as file:
        file.write(b"odd")
    with (folder / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        file.write(b"begin")


def upper_layer(folder: Path) -> None:
    folder.mkdir()
    os.mknod(folder / "gone", 0o0 | stat.S_IFCHR, os.makedev(0, 0))
    (folder / "changed").write_text("anew")
    (folder / "opaque").mkdir()
    os.setxattr(folder / "opaque", "trusted.overlay.opaque", b"y")
    (folder / "opaque/above").write_text("above")
    os.mknod(folder / "..data", 0o0 | stat.S_IFCHR, os.makedev(0, 0))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    store = LayerStore(tmp_path / "store")
    yield store
    store.close()


async def shown(store: LayerStore, layers: list[Path], work: Path) -> dict[bytes, Any]:
    """Return the entries of an overlay of the layers' images."""
    work.mkdir()
    with ExitStack() as stack:
        parts = []
        for number, layer in enumerate(await store.get_all(layers)):
            part = work / str(number)
            part.mkdir()
            stack.enter_context(mounted("-t", "squashfs", "-o", "ro,loop", layer.path, part))
            parts.append(part)
        return entries(stack.enter_context(overlay(parts, work / "all")))


async def test_an_image_is_what_overlayfs_shows_of_its_layers(store: LayerStore, tmp_path: Path) -> None:
    layers = [tmp_path / "lower", tmp_path / "upper"]
    lower_layer(layers[0])
    upper_layer(layers[1])
    with overlay(layers, tmp_path / "host") as host:
        wanted = entries(host)
    found = await shown(store, layers, tmp_path / "images")
    assert b"gone" not in found
    assert b"opaque/below" not in found
    assert found == wanted


async def test_ten_thousand_files(store: LayerStore, tmp_path: Path) -> None:
    layers = [tmp_path / "a", tmp_path / "b"]
    for layer in layers:
        layer.mkdir()
    for number in range(10_000):
        (layers[0] / f"file-{number}").touch()
    assert len(await shown(store, layers, tmp_path / "images")) == 10_000


async def test_each_is_built_once_and_named_by_what_it_holds(store: LayerStore, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("the same")
        os.utime(tmp_path / name / "file", (1, 1))
        os.utime(tmp_path / name, (1, 1))
    first, second = await store.get_all([tmp_path / "one", tmp_path / "two"])
    assert first.digest == second.digest
    before = first.path.stat().st_ino
    again = await store.get(tmp_path / "one")
    assert again.path.stat().st_ino in (before, second.path.stat().st_ino)
    await store.retain(set())
    assert store.list() == []
    assert (await store.get(tmp_path / "one")).digest == first.digest


async def test_what_a_killed_build_left_goes(store: LayerStore, tmp_path: Path) -> None:
    left = store.folder / f"{UNFINISHED}left"
    left.mkdir()
    store.recover()
    assert not left.exists()
    with pytest.raises(InvalidRequest, match="no layer"):
        await store.get(tmp_path / "missing")
