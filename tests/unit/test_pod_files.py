"""Files that are put into a pod stay where they belong, whatever lies there or is named."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.guest import files, sysctl, tar, volumes
from alcove.guest.refused import Refused, name_in
from alcove.shim import host_files
from alcove.shim.spec import CopyIn


def archive(*members: tuple[str, bytes | str | None]) -> int:
    """Return a tar's descriptor: bytes are a file's, a text is a link's target, None is a folder."""
    fd = os.memfd_create("tar")
    with os.fdopen(os.dup(fd), "wb") as file, tarfile.open(fileobj=file, mode="w") as out:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.uid, info.gid, info.mode = os.getuid(), os.getgid(), 0o640
            if isinstance(content, bytes):
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
                continue
            info.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
            info.linkname, info.mode = content or "", 0o750
            out.addfile(info)
    return fd


def put(base: Path, *members: tuple[str, bytes | str | None]) -> None:
    fd = archive(*members)
    try:
        files.put_files({"path": "c1", "mode": 0o755}, fd, str(base))
    finally:
        os.close(fd)


def test_a_config_map_comes_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, ("0", None), ("0/..2024", None), ("0/..2024/key", b"value"), ("0/..data", "..2024"))
    assert (tmp_path / "c1/0/..data/key").read_text() == "value"
    assert (tmp_path / "c1/0/..2024/key").stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "/../x"])
def test_nothing_leads_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused):
        put(tmp_path / "base" if (tmp_path / "base").mkdir() is None else tmp_path, (name, b"out"))
    assert not (tmp_path / "x").exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    base = tmp_path / "base"
    base.mkdir()
    for members in ((("a", str(outside)), ("a/new", b"added")), (("b", str(outside / "file")), ("b", b"changed"))):
        with pytest.raises((Refused, OSError)):
            put(base, *members)
    assert (outside / "file").read_text() == "kept"
    assert os.listdir(outside) == ["file"]


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    put(tmp_path, ("0", b"first"))
    with pytest.raises(Refused) as caught:
        put(tmp_path, ("0", b"second"))
    assert caught.value.code == "exists"
    assert (tmp_path / "c1/0").read_bytes() == b"first"


def test_it_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        put(tmp_path, ("0", bytes(files.MOST_BYTES)), ("1", b"x"))
    assert caught.value.code == "capacity"


def test_reading_back(tmp_path: Path) -> None:
    base = str(tmp_path)
    put(tmp_path, ("0", b"the end"), ("link", "/etc/passwd"))
    assert files.read_file({"path": f"{base}/c1/0", "bytes": 3}, base) == {"text": "the"}
    os.mkfifo(tmp_path / "c1/fifo")
    for path in (f"{base}/c1/link", f"{base}/c1/fifo", "/etc/passwd", f"{base}/c1/../../x", f"{base}/c1/none"):
        with pytest.raises(Refused):
            files.read_file({"path": path, "bytes": 100}, base)


def test_settings_are_a_pods_own(tmp_path: Path) -> None:
    (tmp_path / "net/ipv4").mkdir(parents=True)
    sysctl.set_values({"values": {"net.ipv4.ip_unprivileged_port_start": "0"}}, str(tmp_path))
    assert (tmp_path / "net/ipv4/ip_unprivileged_port_start").read_text() == "0"
    for name in ("kernel.core_pattern", "net...x", "net./etc", "vm.panic_on_oom"):
        with pytest.raises(Refused):
            sysctl.set_values({"values": {name: "1"}}, str(tmp_path))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a" * 129, ".hidden", "a\0"])
def test_names_are_one_part_of_a_path(name: str) -> None:
    with pytest.raises(Refused):
        name_in({"name": name}, "name")


@pytest.mark.parametrize("device", ["../sda", "sda", "vd/a", "", "vd\u0661"])
def test_disks_are_named_as_disks(device: str) -> None:
    request: dict[str, Any] = {"device": device, "name": "n", "partitions": 1}
    with pytest.raises(Refused):
        volumes.mount_image(request)


_PARTS = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=70)
_NAMES = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)
_TREE = st.lists(st.tuples(_NAMES, st.binary(max_size=1500) | st.text("ab/.", min_size=1, max_size=200) | st.none()))


@given(_TREE, st.sampled_from([tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]))
def test_archives_are_read_as_they_were_written(tree: list[tuple[str, bytes | str | None]], form: int) -> None:
    buffer, expected = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for number, (name, content) in enumerate(tree):
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid = 0o600 + number % 64, number, 2 * number
            kind, target, data = tar.FOLDER, "", b""
            if isinstance(content, bytes):
                kind, data, info.size = tar.FILE, content, len(content)
            elif content is None:
                info.type = tarfile.DIRTYPE
            else:
                kind, target, info.type, info.linkname = tar.LINK, content, tarfile.SYMTYPE, content
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                # Too long for this format.
                continue
            expected.append((name.rstrip("/"), kind, info.mode, info.uid, info.gid, target, data))
    found = [(one.name.rstrip("/"), *one[1:6], bytes(one.data)) for one in tar.members(buffer.getvalue())]
    assert found == expected


def test_the_hosts_own_archives_are_read(tmp_path: Path) -> None:
    for name in ("short", "n" * 150):
        (tmp_path / name).write_text(name)
    copies = [CopyIn(source=str(tmp_path / name), name=str(number)) for number, name in enumerate(("short", "n" * 150))]
    copies.append(CopyIn(source=str(tmp_path), name="all"))
    found = {one.name.rstrip("/"): bytes(one.data).decode() for one in tar.members(host_files.pack(copies))}
    assert found == {"0": "short", "1": "n" * 150, "all": "", "all/short": "short", "all/" + "n" * 150: "n" * 150}


@given(st.binary(max_size=2048), st.integers(0, 1023), st.integers(0, 255))
def test_damaged_archives_are_refused(garbage: bytes, place: int, value: int) -> None:
    whole = bytearray(os.pread(fd := archive(("a", b"data")), 4096, 0))
    os.close(fd)
    whole[place] = value
    for data in (garbage, bytes(whole)):
        with contextlib.suppress(ValueError):
            assert all(isinstance(one.name, str) for one in tar.members(data))
