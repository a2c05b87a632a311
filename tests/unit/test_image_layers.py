"""Layers of container images: built once, shared, kept while someone has them, refused in words."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
from pathlib import Path

import pytest

from alcove.errors import CapacityError, Conflict, HostError, InvalidRequest, NotFound, TooLarge
from alcove.host.files import UNFINISHED
from alcove.images import layers as layers_module
from alcove.images.layer_build import build_layer
from alcove.images.layer_folder import LayerLimits
from alcove.images.layers import Layer, LayerStore


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return LayerStore(tmp_path / "layers")


def folder(tmp_path: Path, name: str = "fs", **files: str) -> Path:
    root = tmp_path / "snapshots" / name
    root.mkdir(parents=True)
    for file, text in files.items():
        (root / file).write_text(text)
        os.utime(root / file, (1, 1))
    os.utime(root, (1, 1))
    return root


async def images(store: LayerStore, *folders: Path) -> list[Layer]:
    async with store.images(folders) as found:
        return found


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts what is built."""
    made: list[int] = []

    def build(fd: int, image: Path, limits: LayerLimits) -> None:
        made.append(fd)
        build_layer(fd, image, limits)

    monkeypatch.setattr(layers_module, "build_layer", build)
    return made


async def test_a_folder_is_built_once_and_the_same_content_is_one_file(
    store: LayerStore, tmp_path: Path, builds: list[int]
) -> None:
    first, second = folder(tmp_path, "1", a="x"), folder(tmp_path, "2", a="x")
    found = await images(store, first, second, first)
    assert len({layer.digest for layer in found}) == 1
    assert await images(store, first) == found[:1]
    assert len(builds) == 2
    assert store.layers() == found[:1]
    # A later daemon knows it too.
    assert await images(LayerStore(store.folder), second) == found[:1]
    assert len(builds) == 2
    status = found[0].path.stat()
    assert (status.st_mode & 0o777, status.st_size) == (0o444, found[0].size)
    assert found[0].digest in subprocess.check_output(["sha256sum", str(found[0].path)], text=True)


async def test_callers_at_once_share_one_build(store: LayerStore, tmp_path: Path, builds: list[int]) -> None:
    root = folder(tmp_path, a="x")
    found = await asyncio.gather(*(images(store, root) for _ in range(8)))
    assert found == [found[0]] * 8
    assert len(builds) == 1


async def test_a_folder_in_the_place_of_another_is_another(store: LayerStore, tmp_path: Path) -> None:
    root = folder(tmp_path, a="x")
    (first,) = await images(store, root)
    root.rename(root.with_name("gone"))
    (second,) = await images(store, folder(tmp_path, a="y"))
    assert first.digest != second.digest


async def test_a_file_that_was_lost_is_built_again(store: LayerStore, tmp_path: Path) -> None:
    root = folder(tmp_path, a="x")
    (layer,) = await images(store, root)
    layer.path.unlink()
    assert await images(store, root) == [layer]
    assert layer.path.exists()


async def test_unused_layers_go_unless_their_folder_is_still_there(store: LayerStore, tmp_path: Path) -> None:
    there, gone, used = (folder(tmp_path, name, a=name) for name in ("there", "gone", "used"))
    layers = await images(store, there, gone, used)
    for root in (gone, used):
        root.rename(root.with_name(f"rm-{root.name}"))
    assert await store.remove_unused({layers[2].digest}) == [layers[1]]
    assert {layer.digest for layer in store.layers()} == {layers[0].digest, layers[2].digest}
    assert len(list((store.folder / "seen").iterdir())) == 1
    assert await store.remove_unused(set(), cached=False) == sorted(
        (layers[0], layers[2]), key=lambda layer: layer.digest
    )
    assert store.layers() == []


async def test_what_is_held_is_not_removed(store: LayerStore, tmp_path: Path) -> None:
    root = folder(tmp_path, a="x")
    async with store.images([root]) as (layer,), store.images([root]):
        assert await store.remove_unused(set(), cached=False) == []
    assert await store.remove_unused(set(), cached=False) == [layer]


async def test_a_caller_that_goes_away_holds_nothing(
    store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path, a="x")
    begun, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    find = store._find_or_build

    def slow(path: Path) -> Layer:
        loop.call_soon_threadsafe(begun.set)
        try:
            return find(path)
        finally:
            loop.call_soon_threadsafe(ended.set)

    monkeypatch.setattr(store, "_find_or_build", slow)
    task = asyncio.create_task(images(store, root))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended.wait()
    await asyncio.sleep(0.05)
    assert len(await store.remove_unused(set(), cached=False)) == 1


async def test_what_a_crash_left_is_removed(store: LayerStore, tmp_path: Path) -> None:
    (store.folder / f"{UNFINISHED}1").mkdir()
    (store.folder / f"{UNFINISHED}1" / "image").write_text("half")
    (store.folder / "seen" / f"{UNFINISHED}2").write_text("half")
    store.recover()
    assert [path.name for path in store.folder.rglob("*")] == ["seen"]


async def test_an_index_that_is_no_index_is_passed_over(store: LayerStore, tmp_path: Path, builds: list[int]) -> None:
    root = folder(tmp_path, a="x")
    found = await images(store, root)
    (entry,) = (store.folder / "seen").iterdir()
    for text in ("", "[]", '{"digest": 1}', '{"digest": "../../etc/passwd"}', "\xff"):
        entry.write_text(text)
        assert await images(store, root) == found
    assert len(builds) == 6


# What is refused


@pytest.mark.parametrize(
    ("limits", "files"),
    [(LayerLimits(entries=3), {f"f{n}": "" for n in range(4)}), (LayerLimits(bytes=10), {"a": "x" * 11})],
)
async def test_a_layer_beyond_the_limits(tmp_path: Path, limits: LayerLimits, files: dict[str, str]) -> None:
    store = LayerStore(tmp_path / "layers", limits)
    with pytest.raises(TooLarge):
        await images(store, folder(tmp_path, **files))
    assert store.layers() == []


async def test_files_that_grow_after_they_were_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path)
    (root / "a").write_bytes(os.urandom(1 << 20))
    monkeypatch.setattr("alcove.images.layer_build._OVERHEAD", 0)
    fd = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(TooLarge):
            build_layer(fd, tmp_path / "image", LayerLimits(bytes=4096))
    finally:
        os.close(fd)


async def test_a_build_that_does_not_end(tmp_path: Path) -> None:
    root = folder(tmp_path)
    with (root / "a").open("wb") as file:
        file.truncate(1 << 40)
    fd = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(TooLarge, match="within 1 s"):
            build_layer(fd, tmp_path / "image", LayerLimits(seconds=1))
    finally:
        os.close(fd)


async def test_an_access_control_list_is_refused(store: LayerStore, tmp_path: Path) -> None:
    root = folder(tmp_path, a="x")
    # Version 2: owner rw-, user 5 r--, group r--, mask r--, others ---.
    entries = [(1, 6, -1), (2, 4, 5), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(root / "a", "system.posix_acl_access", packed)
    with pytest.raises(InvalidRequest, match="access control list"):
        await images(store, root)


async def test_places_that_are_no_layer(store: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(folder(tmp_path))
    with pytest.raises(NotFound):
        await images(store, tmp_path / "none")
    for name in ("file", "link"):
        with pytest.raises(InvalidRequest):
            await images(store, tmp_path / name)


async def test_a_folder_that_changes_while_it_is_read(
    store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path, a="x")

    def build(fd: int, image: Path, limits: LayerLimits) -> None:
        (root / "b").touch()
        image.touch()

    monkeypatch.setattr(layers_module, "build_layer", build)
    with pytest.raises(Conflict):
        await images(store, root)

    def remove(fd: int, image: Path, limits: LayerLimits) -> None:
        root.rename(tmp_path / "gone")

    monkeypatch.setattr(layers_module, "build_layer", remove)
    with pytest.raises(Conflict):
        await images(store, root)
    assert [path.name for path in store.folder.rglob("*")] == ["seen"]


async def test_a_full_disk_is_told(store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path, a="x")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(CapacityError, match="MiB free"):
        await images(store, root)


async def test_what_mksquashfs_says_is_told(store: LayerStore, tmp_path: Path) -> None:
    fd = os.open(folder(tmp_path, a="x"), os.O_RDONLY)
    try:
        with pytest.raises(HostError, match="cannot be built"):
            build_layer(fd, tmp_path / "none" / "image", LayerLimits())
    finally:
        os.close(fd)
