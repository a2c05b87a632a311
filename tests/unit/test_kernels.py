"""Kernels of the operator's: what is registered, and which versions run on them."""

from __future__ import annotations

import asyncio
import lzma
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeKernelTier
from tests.kernels import bzimage, modules
from tests.parity.conftest import HELLO
from tests.unit.test_isolation import NODE, serving

from alcove.composition import open_services
from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions.model import LATEST, FunctionVersion
from alcove.images.guest import GuestImage
from alcove.images.guest_initrd import build_initrd, pack, read_entry
from alcove.images.kernels import NEEDED, KernelStore, collect_modules, release_of
from alcove.sandbox.protocol import Isolation
from alcove.settings import Settings


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    return KernelStore(tmp_path / "kernels")


def file(tmp_path: Path, data: bytes, name: str = "vmlinuz") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_a_kernel_is_registered_and_never_changes(store: KernelStore, tmp_path: Path) -> None:
    path = file(tmp_path, bzimage("6.1.0-one"))
    made = store.add("one", path, modules(tmp_path / "m"), "hugepages=4")
    assert (made.release, made.append, made.order) == ("6.1.0-one", "hugepages=4", NEEDED)
    assert store.add("one", path, tmp_path / "m", "hugepages=4") == made
    path.write_bytes(b"changed afterwards")
    assert store.find(made.digest).vmlinuz.read_bytes() == bzimage("6.1.0-one")
    with pytest.raises(Conflict):
        store.add("one", file(tmp_path, bzimage("6.1.0-two")))
    assert store.add("two", file(tmp_path, bzimage("6.1.0-two"))).digest != made.digest
    assert [kernel.name for kernel in store.all()] == ["one", "two"]
    store.remove("one")
    with pytest.raises(NotFound):
        store.find(made.digest)


def test_arguments_and_modules_are_part_of_the_digest(store: KernelStore, tmp_path: Path) -> None:
    path = file(tmp_path, bzimage())
    digests = {store.add("a", path).digest, store.add("b", path, None, "quiet").digest}
    digests.add(store.add("c", path, modules(tmp_path / "m")).digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("name", "data", "append"),
    [
        ("../x", bzimage(), ""),
        ("", bzimage(), ""),
        ("x", b"\x7fELF" + bytes(1 << 17), ""),
        ("x", b"", ""),
        ("x", bzimage(), "a\nb"),
        ("x", bzimage(), "a" * 2000),
    ],
)
def test_what_is_no_kernel_is_refused(store: KernelStore, tmp_path: Path, name: str, data: bytes, append: str) -> None:
    with pytest.raises(InvalidRequest):
        store.add(name, file(tmp_path, data), None, append)
    assert store.all() == []


@given(st.binary(max_size=2048))
def test_any_file_has_a_release_or_is_refused(data: bytes) -> None:
    try:
        release: str | None = release_of(bzimage()[: 0x200 - 8] + data + bytes(1 << 17))
    except InvalidRequest:
        release = None
    assert release is None or 0 < len(release) <= 64


def test_modules_are_found_built_in_or_missed(tmp_path: Path) -> None:
    found = collect_modules(modules(tmp_path / "a", built_in=("virtio", "squashfs"), left_out=("failover",)))
    assert [name for name, _ in found] == [n for n in NEEDED if n not in ("virtio", "squashfs", "failover")]
    with pytest.raises(InvalidRequest, match="virtio_blk"):
        collect_modules(modules(tmp_path / "b", left_out=("virtio_blk",)))
    folder = modules(tmp_path / "c", left_out=("virtio_blk",))
    (folder / "virtio-blk.ko.xz").write_bytes(lzma.compress(b"\x7fELFblk"))
    assert ("virtio_blk", b"\x7fELFblk") in collect_modules(folder)
    (folder / "virtio-blk.ko.xz").write_bytes(lzma.compress(b"\x7fELFblk")[:20])
    with pytest.raises(InvalidRequest):
        collect_modules(folder)


def test_its_initramfs_has_its_modules_and_the_guests_init(store: KernelStore, tmp_path: Path) -> None:
    kernel = store.add("k", file(tmp_path, bzimage()), modules(tmp_path / "m"))
    busybox = file(tmp_path, b"busybox", "busybox")
    initrd = file(tmp_path, build_initrd(b"old", busybox, kernel.folder / "modules", []), "initrd")
    image = GuestImage("0" * 64, tmp_path / "vmlinuz", initrd, tmp_path / "root", {})
    made = store.initrd_of(kernel, image).read_bytes()
    assert read_entry(made, "lib/virtio_blk.ko") == b"\x7fELFvirtio_blk"
    assert read_entry(made, "bin/busybox") == b"busybox"
    assert b"switch_root" in read_entry(made, "init")
    assert store.all() == [kernel]


@given(st.dictionaries(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1), st.binary()))
def test_entries_come_out_as_they_went_in(files: dict[str, bytes]) -> None:
    archive = pack((name, 0o100644, data) for name, data in files.items())
    assert {name: read_entry(archive, name) for name in files} == files
    with pytest.raises(KeyError):
        read_entry(archive, "TRAILER")


async def test_a_version_keeps_the_kernel_that_it_was_published_with(tmp_path: Path) -> None:
    async with serving(tmp_path, 'default = "process"\n') as services:
        tenant, functions, kernels = services.tenants.default.id, services.functions, services.kernels
        one = kernels.add("one", file(tmp_path, bzimage("6.1.0-one")))
        two = kernels.add("two", file(tmp_path, bzimage("6.1.0-two")))
        await functions.create(tenant, "f", HELLO, NODE, tags={"alcove:kernel": "one"}, publish=True)
        made = await functions.get(tenant, "f", "1")
        assert (made.kernel, made.isolation, made.cause) == (one.digest, Isolation.VM, "kernel")
        assert "one" in made.reason
        assert made.workload().kernel == one.digest
        before = await functions.get(tenant, "f")
        await functions.set_tags(tenant, "f", lambda tags: tags.update({"alcove:kernel": "two"}))
        after = await functions.get(tenant, "f")
        assert (after.kernel, after.revision != before.revision) == (two.digest, True)
        assert (await functions.get(tenant, "f", "1")).kernel == one.digest
        assert (await functions.publish(tenant, "f")).kernel == two.digest
        await functions.set_tags(tenant, "f", lambda tags: tags.clear())
        plain = await functions.get(tenant, "f", LATEST)
        assert (plain.kernel, plain.isolation) == ("", Isolation.PROCESS)


async def test_an_unknown_kernel_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as services:
        tenant = services.tenants.default.id
        with pytest.raises(InvalidRequest, match="alcove:kernel"):
            await services.functions.create(tenant, "f", HELLO, NODE, tags={"alcove:kernel": "/boot/vmlinuz"})
        await services.functions.create(tenant, "f", HELLO, NODE)
        with pytest.raises(InvalidRequest, match="alcove:kernel"):
            await services.functions.set_tags(tenant, "f", lambda tags: tags.update({"alcove:kernel": "none-such"}))


def test_an_interrupted_registration_leaves_nothing(store: KernelStore, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alcove.images.kernels.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        store.add("k", file(tmp_path, bzimage()))
    assert list((tmp_path / "kernels").iterdir()) == []


async def test_a_daemon_that_starts_makes_what_its_functions_lack(tmp_path: Path) -> None:
    """The template of a kernel is gone where the guest image is another now: it is made before the first call."""
    for started in (1, 2):
        tier = FakeKernelTier(boot_s=0.2)
        async with AsyncExitStack() as stack:
            services = await open_services(stack, Settings(state=tmp_path / "state"), {Isolation.VM: tier})
            tenant, functions = services.tenants.default.id, services.functions
            kernel = services.kernels.add("one", file(tmp_path, bzimage("6.1.0-one")))
            await functions.recover()
            await functions.prepare()
            if started == 1:
                await functions.create(tenant, "f", HELLO, NODE, tags={"alcove:kernel": "one"})
                await functions.create(tenant, "plain", HELLO, NODE)
            found = await functions.get(tenant, "f")
            assert functions.preparer.state(found).name == "Pending"
            async with asyncio.timeout(10):
                while functions.preparer.state(found).name == "Pending":
                    await asyncio.sleep(0.01)
            assert functions.preparer.state(found).name == "Active"
            assert tier.kernels == {(found.runtime, kernel.digest)}


async def test_publishing_waits_for_no_kernel(tmp_path: Path) -> None:
    """A version whose machine is still to boot is there at once; its snapshot is taken when that is done."""
    tier = FakeKernelTier(boot_s=0.2)
    async with AsyncExitStack() as stack:
        services = await open_services(stack, Settings(state=tmp_path / "state"), {Isolation.VM: tier})
        tenant, functions = services.tenants.default.id, services.functions
        services.kernels.add("one", file(tmp_path, bzimage("6.1.0-one")))
        taken: list[str] = []

        async def take(function: FunctionVersion) -> None:
            assert tier.kernels
            taken.append(function.version)

        services.dispatcher.snapshots.take = take  # type: ignore[method-assign]
        made = await functions.create(tenant, "f", HELLO, NODE, tags={"alcove:kernel": "one"}, publish=True)
        assert (made.version, taken, functions.preparer.state(made).name) == ("1", [], "Pending")
        async with asyncio.timeout(10):
            while not taken:
                await asyncio.sleep(0.01)
        assert taken == ["1"]
        await functions.publish(tenant, "f")
        assert taken == ["1", "1"]
