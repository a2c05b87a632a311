"""Packages from strangers: what is refused, and that the rest becomes the same image every time."""

from __future__ import annotations

import asyncio
import io
import stat
import struct
import subprocess
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alcove.errors import CapacityError, InvalidRequest, TooLarge
from alcove.host import files
from alcove.images import code_compile, code_zip
from alcove.images.code import IMAGE_SIZE, CodeStore, CodeUse
from alcove.images.code_folder import zip_folder
from alcove.images.code_zip import check_package


def zipped(entries: dict[str, bytes | tuple[int, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Entries by name; a tuple gives the Unix mode too."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, value in entries.items():
            mode, data = value if isinstance(value, tuple) else (0o100644, value)
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, data)
    return buffer.getvalue()


HELLO = zipped(
    {
        "main.py": b"def handler(event, context):\n    return {'a', 'b', event}\n",
        "broken.py": b"def (:\n",
        "lib/__init__.py": b"",
        "bootstrap": (0o100775, b"#!/bin/sh\n"),
        "data/": (0o040755, b""),
    }
)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"../evil": b""}, "leaves the package"),
        ({"a/../../evil": b""}, "leaves the package"),
        ({"a/..": b""}, "leaves the package"),
        ({"/etc/passwd": b""}, "is absolute"),
        ({"C:/x": b""}, "is absolute"),
        ({"a\\..\\b": b""}, "backslash"),
        ({"a\nb": b""}, "control characters"),
        ({"x" * 300: b""}, "too long"),
        ({"/".join("abc" * 200): b""}, "too long"),
        ({"link": (stat.S_IFLNK | 0o777, b"/etc/passwd")}, "symbolic link"),
        ({"device": (stat.S_IFCHR | 0o666, b"")}, "device"),
        ({"fifo": (stat.S_IFIFO | 0o666, b"")}, "device"),
        ({"a": b"", "a/b": b""}, "folder and a file"),
        ({"a/b": b"", "a": b""}, "folder and a file"),
        ({"a": b"x", "./a": b"y"}, "appears twice"),
        ({"dir": (stat.S_IFDIR | 0o755, b"")}, "folder and a file"),
        ({"only/": (stat.S_IFDIR | 0o755, b"")}, "non-empty zip"),
        ({"zeros": b"\0" * (65 << 20)}, "times its size"),
    ],
)
def test_entries_that_are_refused(entries: dict[str, bytes], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_package(zipped(entries))


def test_a_nul_hides_no_name() -> None:
    data = zipped({"goodXbad": b""}).replace(b"goodXbad", b"good\0bad")
    with pytest.raises(InvalidRequest, match="control"):
        check_package(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_are_refused_and_case_tells_apart() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(InvalidRequest, match="twice"):
        check_package(buffer.getvalue())
    assert len(check_package(zipped({"a": b"", "A": b""})).entries) == 2


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 100, HELLO[:-30], HELLO[: len(HELLO) // 2]])
def test_what_is_not_a_whole_zip_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"unzip|non-empty"):
        check_package(data)
    with pytest.raises(InvalidRequest):
        check_package(zipped({}))


def test_encrypted_and_odd_methods_are_refused() -> None:
    data = bytearray(zipped({"a": b"x"}))
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    with pytest.raises(InvalidRequest, match="encrypted"):
        check_package(bytes(data))
    with pytest.raises(InvalidRequest, match="compression method"):
        check_package(zipped({"a": b"x"}, zipfile.ZIP_LZMA))


def test_declared_sizes_are_limits(tmp_path: Path) -> None:
    package = zipped({"a": b"x" * 10_000})
    central = package.index(b"PK\x01\x02")

    def declaring(size: int) -> bytes:
        return package[: central + 24] + struct.pack("<I", size) + package[central + 28 :]

    with pytest.raises(InvalidRequest, match="Unzipped size"):
        check_package(declaring(300 << 20))
    for size in (9_999, 10_001):
        target = tmp_path / str(size)
        target.mkdir()
        with pytest.raises(InvalidRequest):
            check_package(declaring(size)).unpack(target)


def test_overlapping_entries_are_refused() -> None:
    """Two names for one body: the kernel of a zip bomb without recursion."""
    package = bytearray(zipped({"a": b"x" * 1000, "b": b"y" * 1000}, zipfile.ZIP_STORED))
    second = package.rindex(b"PK\x01\x02")
    package[second + 42 : second + 46] = struct.pack("<I", 0)
    with pytest.raises(InvalidRequest, match="overlaps"):
        check_package(bytes(package))


def test_wrong_crc_is_refused(tmp_path: Path) -> None:
    package = bytearray(zipped({"a": b"hello world"}, zipfile.ZIP_STORED))
    package[package.index(b"hello")] ^= 1
    with pytest.raises(InvalidRequest, match="CRC"):
        check_package(bytes(package)).unpack(tmp_path)


def test_too_large_and_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLarge):
        check_package(b"\0" * (code_zip.PACKAGE_LIMIT + 1))
    monkeypatch.setattr(code_zip, "ENTRY_LIMIT", 3)
    with pytest.raises(InvalidRequest, match="entries"):
        check_package(zipped({str(number): b"" for number in range(4)}))


def test_zip64_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(b"hello")
    check_package(buffer.getvalue()).unpack(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"hello"


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_zip_is_refused_or_read(data: st.DataObject) -> None:
    damaged = bytearray(HELLO)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(HELLO) - 1))] = data.draw(st.integers(0, 255))
    try:
        package = check_package(bytes(damaged))
    except (InvalidRequest, TooLarge):
        return
    for entry in package.entries:
        assert not entry.path.startswith("/")
        assert ".." not in entry.path.split("/")


async def test_the_image(tmp_path: Path) -> None:
    store = CodeStore(tmp_path / "code")
    first, second = await asyncio.gather(store.build(HELLO, python=True), store.build(HELLO, python=True))
    assert first == second
    assert first.path.stat().st_size == IMAGE_SIZE
    assert first.path.stat().st_blocks * 512 < 1 << 20
    assert first.path.stat().st_mode & 0o777 == 0o444
    assert first.path.name == f"{first.digest}.squashfs"
    assert store.package_path(first.package_sha256).read_bytes() == HELLO
    listing = subprocess.run(["unsquashfs", "-lln", first.path], capture_output=True, text=True, check=True).stdout
    modes = {line.split()[-1]: line.split()[:2] for line in listing.splitlines() if line}
    assert modes["squashfs-root/bootstrap"] == ["-rwxr-xr-x", "0/0"]
    assert modes["squashfs-root/main.py"] == ["-rw-r--r--", "0/0"]
    assert "squashfs-root/__pycache__/main.cpython-311.pyc" in modes
    assert "squashfs-root/__pycache__/broken.cpython-311.pyc" not in modes

    plain = await store.build(HELLO, python=False)
    assert plain.digest != first.digest
    other = CodeStore(tmp_path / "again")
    assert (await other.build(HELLO, python=True)).digest == first.digest
    assert not list((tmp_path / "code").glob(files.UNFINISHED + "*"))
    store.close()
    other.close()


async def test_a_cached_image_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CodeStore(tmp_path)
    first = await store.build(HELLO, python=False)
    monkeypatch.setattr(CodeStore, "_make", None)
    assert await store.build(HELLO, python=False) == first
    monkeypatch.undo()
    first.path.unlink()
    assert await store.build(HELLO, python=False) == first
    store.close()


async def test_a_refused_package_leaves_nothing(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    broken = bytearray(zipped({"first": b"x" * 100, "a": b"hello world"}, zipfile.ZIP_STORED))
    broken[broken.index(b"hello")] ^= 1
    with pytest.raises(InvalidRequest):
        await store.build(bytes(broken), python=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["built", "packages"]
    store.close()


async def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CodeStore(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(CapacityError) as caught:
        await store.build(HELLO, python=True)
    assert caught.value.hint
    store.close()


async def test_recover_and_collect(tmp_path: Path) -> None:
    store = CodeStore(tmp_path)
    leftover = tmp_path / f"{files.UNFINISHED}abc" / "tree"
    leftover.mkdir(parents=True)
    store.recover()
    assert not leftover.parent.exists()
    kept = await store.build(HELLO, python=False)
    gone = await store.build(zipped({"a": b"1"}), python=False)
    await store.collect({kept.package_sha256}, {kept.digest})
    assert kept.path.exists()
    assert not gone.path.exists()
    assert not store.package_path(gone.package_sha256).exists()
    assert len(list((tmp_path / "built").iterdir())) == 1
    store.close()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_what_is_pinned_at_any_moment_is_not_discarded(tmp_path: Path, when: str) -> None:
    store = CodeStore(tmp_path)
    package = zipped({"b": b"1"})
    built = await store.build(package, python=False)
    # Another zip of the same tree: the image is one.
    twin = await store.build(zipped({"b": b"1"}, zipfile.ZIP_STORED), python=False)
    assert (twin.digest, twin.package_sha256 == built.package_sha256) == (built.digest, False)
    use = CodeUse(twin.package_sha256, twin.digest)

    async def discard(taken: set[str]) -> None:
        await store.discard([use], {twin.package_sha256}, {twin.digest}, taken)

    with ExitStack() as stack:
        if when == "before":
            stack.enter_context(store.pinned(package))
        with store.watched() as taken:
            if when == "meanwhile":
                with store.pinned(package):
                    pass
            await discard(taken)
    assert built.path.exists()
    assert not store.package_path(twin.package_sha256).exists()
    with store.watched() as taken:
        await discard(taken)
    assert not built.path.exists()
    store.close()


def test_the_compiler_runs_nothing_of_the_package(tmp_path: Path) -> None:
    """Neither modules that shadow the standard library nor sitecustomize are imported."""
    tree = tmp_path / "tree"
    tree.mkdir(mode=0o777)
    tree.chmod(0o777)
    for name in ("resource.py", "py_compile.py", "sitecustomize.py", "os.py"):
        (tree / name).write_text(f"open('/{tree}/ran', 'w')\n")
    assert code_compile.precompile(tree)
    assert not (tree / "ran").exists()
    assert (tree / "__pycache__/os.cpython-311.pyc").exists()


def test_a_folder_becomes_the_same_zip(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "node_modules/.bin").mkdir(parents=True)
    (folder / "node_modules/tool.js").write_text("x")
    (folder / "node_modules/.bin/tool").symlink_to("../tool.js")
    (folder / "bootstrap").write_text("#!/bin/sh\n")
    (folder / "bootstrap").chmod(0o755)
    first = zip_folder(folder)
    assert first == zip_folder(folder)
    entries = {entry.path: entry.executable for entry in check_package(first).entries}
    assert entries == {
        "bootstrap": True,
        "node_modules/.bin/tool": False,
        "node_modules/tool.js": False,
    }
    (folder / "out").symlink_to("/etc/passwd")
    with pytest.raises(InvalidRequest):
        zip_folder(folder)
