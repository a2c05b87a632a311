"""QEMU's arguments are a pure function of the spec."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alcove.vmm.spec import AcceleratorKind, Boot, Channel, Drive, MachineSpec, render

SPEC = MachineSpec(
    name="s-1",
    accelerator=AcceleratorKind.TCG,
    memory_mib=3328,
    memory_fd=10,
    share=False,
    drives=(Drive("root", 11), Drive("code", None, size=512 << 20)),
    channels=(Channel("alcove.agent", 12), Channel("alcove.invoke", 13)),
    qmp_fd=14,
)


def option(arguments: list[str], name: str) -> list[str]:
    return [arguments[index + 1] for index, word in enumerate(arguments) if word == name]


def test_the_command_line(snapshot: object) -> None:
    assert render(SPEC) == snapshot
    assert render(replace(SPEC, boot=Boot(20, 21, "quiet"), share=True, tap_fd=15)) == snapshot


def test_every_descriptor_is_inherited_once() -> None:
    spec = replace(SPEC, boot=Boot(20, 21, "quiet"), tap_fd=15)
    assert sorted(spec.descriptors()) == [10, 11, 12, 13, 14, 15, 20, 21]


def test_a_disk_format_is_never_probed() -> None:
    for drive in option(render(SPEC), "-blockdev"):
        assert drive.startswith(("driver=raw,", "driver=file,", "driver=null-co,"))
        assert "read-only=on" in drive


def test_no_path_of_the_host_is_named() -> None:
    words = " ".join(render(replace(SPEC, boot=Boot(20, 21, "quiet"), tap_fd=15)))
    for word in words.replace("=", " ").replace(",", " ").split():
        assert not word.startswith("/") or word.startswith(("/proc/self/fd/", "/dev/fdset/"))


@pytest.mark.parametrize("needed", ["obsolete=deny", "elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny"])
def test_seccomp_is_on(needed: str) -> None:
    assert needed in option(render(SPEC), "-sandbox")[0]


def test_hardware_virtualisation_shows_the_real_processor() -> None:
    arguments = render(replace(SPEC, accelerator=AcceleratorKind.KVM))
    assert option(arguments, "-cpu") == ["host"]
    assert option(arguments, "-accel") == ["kvm"]
