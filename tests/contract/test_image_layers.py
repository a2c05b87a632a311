"""What a pod sees of an image's layers is what the host's own overlay of their folders shows, entry by entry.

Folders with all that a layer may hold are mounted twice: as containerd would, and from their squashfs files, which are
the partitions of one disk. Needs root, mounts and loop devices; starts no machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alcove.errors import CapacityError, HostError
from alcove.images.image_disk import descriptor, image_disk
from alcove.images.layer_build import build_layer
from alcove.images.layer_folder import LayerLimits
from alcove.images.layers import Layer, LayerStore

pytestmark = pytest.mark.machine

OPAQUE = "trusted.overlay.opaque"
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


@contextlib.contextmanager
def mounted(*argv: str, target: Path) -> Iterator[Path]:
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *argv, str(target)], check=True, cwd=target.parent)
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


@contextlib.contextmanager
def overlay(folders: Sequence[Path], target: Path) -> Iterator[Path]:
    """Mount the folders, the lowest first. Relative names: options have one page."""
    assert len({folder.parent for folder in folders}) == 1
    names = [folder.name for folder in reversed(folders)]
    if len(names) == 1:
        # Overlay wants two, or an upper one.
        (folders[0].parent / "none").mkdir(exist_ok=True)
        names.append("none")
    target.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={':'.join(names)}", str(target)]
    subprocess.run(command, check=True, cwd=folders[0].parent)
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


def list_attributes(path: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return ()  # so says a squashfs in which no file has any
    return tuple(sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names))


def describe(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return all that can be seen of each entry. Hard links are told by the first of their names."""
    found: dict[bytes, tuple[object, ...]] = {}
    first: dict[tuple[int, int], bytes] = {}
    top = os.fsencode(root)
    for base, folders, files in os.walk(top):
        folders.sort()
        for name in (b".", *sorted(files), *folders) if base == top else (*sorted(files), *folders):
            path = os.path.join(base, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                # Overlay lists a whiteout in a folder that only one layer has.
                found[os.path.relpath(path, top)] = ("whiteout",)
                continue
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            attributes = list_attributes(path)
            key = os.path.relpath(path, top)
            links = (first.setdefault((status.st_dev, status.st_ino), key), status.st_nlink) if content else ()
            numbers = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, int(status.st_mtime))
            size = status.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0
            found[key] = (*numbers, size, content, attributes, links)
    return found


async def images(store: LayerStore, folders: Sequence[Path]) -> list[Layer]:
    async with store.images(folders) as found:
        return found


@contextlib.contextmanager
def partitions(layers: Sequence[Layer], tmp_path: Path) -> Iterator[list[Path]]:
    """Mount each layer's file through a loop device of its own, as each is a partition of its own."""
    with contextlib.ExitStack() as stack:
        found = []
        for number, layer in enumerate(layers):
            command = ["losetup", "--read-only", "--find", "--show", str(layer.path)]
            loop = subprocess.check_output(command, text=True).strip()
            stack.callback(subprocess.run, ["losetup", "-d", loop], check=True)
            found.append(
                stack.enter_context(mounted("-o", "ro", "-t", "squashfs", loop, target=tmp_path / f"p{number}"))
            )
        yield found


async def compare(tmp_path: Path, folders: Sequence[Path]) -> dict[bytes, tuple[object, ...]]:
    layers = await images(LayerStore(tmp_path / "store"), folders)
    with overlay(folders, tmp_path / "host") as root:
        expected = describe(root)
    with partitions(layers, tmp_path / "mounts") as mounts, overlay(mounts, tmp_path / "pod") as root:
        assert describe(root) == expected
    return expected


def fill_base(root: Path) -> None:
    """Everything that a layer may hold."""
    for name in ("bin", "etc/deep", "old", "emptied", "replaced", "sticky"):
        (root / name).mkdir(parents=True)
    (root / "bin/su").write_bytes(b"\x7fELF" + bytes(100))
    os.chmod(root / "bin/su", 0o6755)
    (root / "bin/ping").write_bytes(b"ping")
    os.setxattr(root / "bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "bin/ping", "user.odd", b"\0\xff")
    os.setxattr(root / "etc", "user.folder", b"1")
    os.setxattr(root, "user.root", b"of all")
    os.setxattr(root / "etc", "trusted.mine", b"t")
    os.link(root / "bin/ping", root / "etc/deep/ping2")
    os.symlink("/etc/../../x", root / "link")
    os.symlink("\udcff", root / "odd-link")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "disk", 0o600 | stat.S_IFBLK, os.makedev(259, 300))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    for name in (b"a\nb", b"\xff\xfe", b' "\\\t', b"...", b"..x", b".wh..wh..opq", b".wh.old", b"*", b"-n", b"x" * 255):
        Path(os.fsdecode(os.path.join(os.fsencode(root), name))).write_bytes(name)
    with (root / "sparse").open("wb") as file:
        file.truncate(64 << 20)
        os.pwrite(file.fileno(), b"end", (64 << 20) - 3)
    (root / "large").write_bytes(os.urandom(3 << 20))
    for name in ("old/file", "emptied/file", "replaced/file", "..gone"):
        (root / name).write_text(name)
    os.chown(root / "etc/deep", 1234, 60_000)
    os.lchown(root / "link", 4_000_000_000, 1)
    os.chmod(root / "sticky", 0o3777)
    os.chmod(root, 0o751)


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def fill_upper(root: Path) -> None:
    """What a later layer takes away and changes."""
    for name in ("old", "emptied", "etc"):
        (root / name).mkdir(parents=True)
    whiteout(root / "old/file")
    whiteout(root / "..gone")
    whiteout(root / "...")
    whiteout(root / "never-was")
    os.setxattr(root / "emptied", OPAQUE, b"y")
    (root / "emptied/new").write_text("new")
    # A folder becomes a file, a file a folder.
    (root / "replaced").write_text("file now")
    (root / "large").mkdir()
    os.chmod(root / "etc", 0o700)


def fresh(tmp_path: Path, count: int) -> list[Path]:
    folders = [tmp_path / "fs" / str(number) for number in range(count)]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


async def test_everything_that_a_layer_may_hold(tmp_path: Path) -> None:
    base, upper, empty = folders = fresh(tmp_path, 3)
    fill_base(base)
    fill_upper(upper)
    found = await compare(tmp_path, folders)
    assert b"old/file" not in found
    assert b"..gone" not in found
    assert b"emptied/new" in found
    assert b"emptied/file" not in found
    assert stat.S_IMODE(found[b"bin/su"][0]) == 0o6755  # type: ignore[call-overload]
    assert found[b"bin/ping"][-1] == (b"bin/ping", 2)
    assert ("security.capability", CAPABILITY) in found[b"bin/ping"][-2]  # type: ignore[operator]
    assert list(empty.iterdir()) == []


async def test_one_layer_with_ten_thousand_files(tmp_path: Path) -> None:
    (root,) = fresh(tmp_path, 1)
    for number in range(100):
        (root / f"d{number}").mkdir()
        for file in range(100):
            (root / f"d{number}" / f"f{file}").write_bytes(b"%d" % number * file)
    assert len(await compare(tmp_path, [root])) == 10_101


async def test_127_layers(tmp_path: Path) -> None:
    """As many as containerd allows an image."""
    folders = fresh(tmp_path, 127)
    for number, folder in enumerate(folders):
        (folder / f"file{number}").write_text(str(number))
        (folder / "last").write_text(str(number))
        if number % 2:
            whiteout(folder / f"file{number - 1}")
    found = await compare(tmp_path, folders)
    assert len(found) == 1 + 1 + 64


ATTRIBUTES = st.dictionaries(st.sampled_from(["user.a", "trusted.b", "security.c"]), st.binary(max_size=40), max_size=2)
NAMES = st.sampled_from([b"a", b"b", b"c", b"...", b"\xff", b"\n"])
ENTRIES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=20)),
    st.tuples(st.just("link"), st.sampled_from([b"a", b"../x", b"/etc"])),
    st.tuples(st.just("fifo"), st.just(b"")),
    st.tuples(st.just("whiteout"), st.just(b"")),
)
FOLDERS = st.tuples(st.just("folder"), st.dictionaries(NAMES, ENTRIES, max_size=3), st.booleans())
Tree = dict[bytes, tuple[tuple[Any, ...], int, dict[str, bytes]]]
LAYERS: st.SearchStrategy[list[Tree]] = st.lists(
    st.dictionaries(NAMES, st.tuples(st.one_of(ENTRIES, FOLDERS), st.integers(0, 0o7777), ATTRIBUTES), max_size=4),
    min_size=1,
    max_size=4,
)


def place(path: bytes, kind: str, content: object, opaque: bool = False) -> None:
    name = Path(os.fsdecode(path))
    match kind:
        case "file":
            assert isinstance(content, bytes)
            name.write_bytes(content)
        case "link":
            os.symlink(content, path)  # type: ignore[arg-type]
        case "fifo":
            os.mkfifo(path)
        case "whiteout":
            whiteout(name)
        case "folder":
            os.mkdir(path)
            if opaque:
                os.setxattr(path, OPAQUE, b"y")
            assert isinstance(content, dict)
            for inner, (below, text) in content.items():
                place(os.path.join(path, inner), below, text)


@given(layers=LAYERS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layers(
    tmp_path_factory: pytest.TempPathFactory, layers: list[dict[bytes, tuple[tuple, int, dict]]]
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    folders = fresh(tmp_path, len(layers))
    for folder, entries in zip(folders, layers, strict=True):
        for name, (entry, mode, attributes) in entries.items():
            path = os.path.join(os.fsencode(folder), name)
            place(path, *entry)
            if entry[0] in ("file", "folder"):
                os.chmod(path, mode)
                for key, value in attributes.items():
                    os.setxattr(path, key, value)
    asyncio.run(compare(tmp_path, folders))


async def test_the_same_folder_gives_the_same_file(tmp_path: Path) -> None:
    (root,) = fresh(tmp_path, 1)
    fill_base(root)
    first, second = [(await images(LayerStore(tmp_path / name), [root]))[0] for name in ("one", "two")]
    assert first.digest == second.digest


async def test_the_pieces_of_a_disk_are_where_its_table_says(tmp_path: Path) -> None:
    folders = fresh(tmp_path, 3)
    for number, folder in enumerate(folders):
        (folder / "number").write_text(str(number))
    layers = await images(LayerStore(tmp_path / "store"), folders)
    disk_bytes = 16 << 20
    disk = tmp_path / "disk"
    with image_disk([layer.path for layer in layers], disk_bytes) as pieces, disk.open("wb") as file:
        listing = descriptor([(str(piece.fd), piece.size) for piece in pieces]).decode()
        # As QEMU reads it (block/vmdk.c): sectors, file, the sector in it where the extent begins.
        for line in re.findall(r'^RW (\d+) FLAT "(\d+)" (\d+)$', listing, re.MULTILINE):
            sectors, fd, offset = map(int, line)
            file.write(os.pread(fd, sectors * 512, offset * 512))
    assert disk.stat().st_size == disk_bytes
    table = json.loads(subprocess.check_output(["/sbin/sfdisk", "-J", str(disk)]))["partitiontable"]
    for number, part in enumerate(table["partitions"]):
        options = f"ro,loop,offset={part['start'] * 512},sizelimit={part['size'] * 512}"
        with mounted("-o", options, "-t", "squashfs", str(disk), target=tmp_path / "mnt") as root:
            assert (root / "number").read_text() == str(number)


async def test_what_is_put_around_the_layers_cannot_be_written(tmp_path: Path) -> None:
    (root,) = fresh(tmp_path, 1)
    layers = await images(LayerStore(tmp_path / "store"), [root])
    with image_disk([layer.path for layer in layers], 1 << 40) as (head, _, tail):
        for piece in (head, tail):
            # Whoever holds it may open it anew.
            again = os.open(f"/proc/self/fd/{piece.fd}", os.O_RDWR)
            with pytest.raises(PermissionError):
                os.pwrite(again, b"x", 0)
            os.close(again)
            # A terabyte that takes next to nothing.
            assert os.fstat(piece.fd).st_blocks * 512 <= 64 << 10


def test_what_can_not_be_read_ends_the_build(tmp_path: Path) -> None:
    (root,) = fresh(tmp_path, 1)
    with mounted("-t", "tmpfs", "tmpfs", target=root / "proc") as inner:
        # A file whose reading fails, whoever reads.
        (inner / "mem").touch()
        subprocess.run(["mount", "--bind", "/proc/self/mem", str(inner / "mem")], check=True)
        fd = os.open(root, os.O_RDONLY)
        try:
            with pytest.raises(HostError, match="cannot be built"):
                build_layer(fd, tmp_path / "image", LayerLimits())
        finally:
            os.close(fd)
            subprocess.run(["umount", str(inner / "mem")], check=True)


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    (root,) = fresh(tmp_path, 1)
    (root / "large").write_bytes(os.urandom(3 << 20))
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", target=tmp_path / "small") as small:
        fd = os.open(root, os.O_RDONLY)
        try:
            with pytest.raises(CapacityError, match="no room"):
                build_layer(fd, small / "image", LayerLimits())
        finally:
            os.close(fd)
