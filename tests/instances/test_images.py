"""Images as nobody would make them, and as many do: what they hold is what runs, whatever the tier."""

from __future__ import annotations

import tarfile

import pytest
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane
from tests.oci.busybox import busybox_layer
from tests.oci.image import Entry, Image, directory, image, layer, symlink
from tests.oci.registry import Registry

FILES = 10_000
# As many as containerd's overlay takes.
LAYERS = 127
WHITEOUTS = (".wh...", "d/.wh...", ".wh..", "d/.wh.", "../.wh.keep", "d/../../.wh.keep", ".wh../../keep")
# Of what containerd unpacks, or refuses, before any tier sees it.
once = pytest.mark.parametrize("plane", ["process"], indirect=True, scope="package")


def offer(plane: Plane, images: Registry, name: str, made: Image) -> None:
    """What an earlier run has left under this name, where the state is kept, is another image."""
    images.push(name, made)
    plane.cli("cache", "remove", f"registry.test/{name}")


def test_one_without_layers_is_said_to_hold_no_program(plane: Plane, images: Registry) -> None:
    offer(plane, images, "empty:1", image([], {"Cmd": ["/x"]}))
    done = plane.cli("run", "--rm", "registry.test/empty:1")
    assert done.returncode != 0
    assert "/x" in done.stderr or "layers" in done.stderr, done.stderr
    assert plane.cli("run", "--rm", BUSYBOX, "--", "echo", "on").stdout == "on\n"


@once
@pytest.mark.parametrize("name", WHITEOUTS)
def test_a_whiteout_takes_nothing_away_outside(plane: Plane, images: Registry, name: str) -> None:
    """Either the image is refused, or it loses what is its own."""
    tag = f"whiteout{WHITEOUTS.index(name)}:1"
    keep = layer([directory("d"), Entry("d/keep", b"kept"), Entry("keep", b"kept")])
    offer(plane, images, tag, image([busybox_layer(), keep, layer([directory("d"), Entry(name)])]))
    done = plane.cli("run", "--rm", f"registry.test/{tag}", "--", "cat", "/etc/passwd")
    refused = done.returncode == 6 and "ErrImagePull" in done.stderr
    assert refused or (done.returncode == 0 and done.stdout.startswith("root:")), (done.stdout, done.stderr)
    below = plane.cli("run", "--rm", BUSYBOX, "--", "cat", "/etc/passwd")
    assert below.stdout.startswith("root:"), below.stderr


def test_links_that_lead_out_lead_nowhere(plane: Plane, images: Registry) -> None:
    """Of /dev, /dev/null and /proc too, which containers get mounts at."""
    hostile = [
        *(symlink(name, "/") for name in ("out", "deep/out")),
        symlink("escape", "../../../../../../../../.."),
        Entry("escape/planted", b"x"),
        Entry("/absolute", b"x"),
        Entry("../../above", b"x"),
    ]
    offer(plane, images, "links:1", image([busybox_layer(), layer(hostile)]))
    done = plane.cli("run", "--rm", "registry.test/links:1", "--", "ls", "/")
    if done.returncode == 0:
        assert {"planted", "absolute", "above"} <= set(done.stdout.split())
    else:
        assert "ErrImagePull" in done.stderr
    for number, (name, target) in enumerate((("dev", "/etc"), ("proc", "/etc"), ("dev/null", "/etc/passwd"))):
        tag = f"mounts{number}:1"
        offer(plane, images, tag, image([busybox_layer(), layer([symlink(name, target)])]))
        done = plane.cli("run", "--rm", f"registry.test/{tag}", "--", "sh", "-c", "cat /etc/passwd; test -c /dev/null")
        # Refused by the runtime, or mounted inside: the host's accounts, such as daemon, are never seen.
        assert "daemon" not in done.stdout, (name, done.stdout, done.stderr)
    assert plane.cli("run", "--rm", BUSYBOX, "--", "test", "-c", "/dev/null").returncode == 0


def test_ten_thousand_files(plane: Plane, images: Registry) -> None:
    folders = [directory(f"many/{number}") for number in range(100)]
    files = [Entry(f"many/{number % 100}/{number}", b"%d" % number) for number in range(FILES)]
    offer(plane, images, "many:1", image([busybox_layer(), layer([directory("many"), *folders, *files])]))
    count = "find /many -type f | wc -l; cat /many/99/9999"
    done = plane.cli("run", "--rm", "registry.test/many:1", "--", "sh", "-c", count)
    assert done.stdout == f"{FILES}\n9999", done.stderr


def test_127_layers(plane: Plane, images: Registry) -> None:
    above = [layer([Entry(f"l{number}", b"x"), Entry("last", b"%d" % number)]) for number in range(1, LAYERS)]
    offer(plane, images, "deep:1", image([busybox_layer(), *above]))
    done = plane.cli("run", "--rm", "registry.test/deep:1", "--", "sh", "-c", "cat /last; ls -d /l[0-9]* | wc -l")
    assert done.stdout == f"{LAYERS - 1}{LAYERS - 1}\n", done.stderr


def test_device_nodes_of_an_image_open_nothing(plane: Plane, images: Registry) -> None:
    """Of the first disks that there may be, and of memory: on the host as in a guest."""
    numbers = {"vda": (254, 0), "vda252": (252, 0), "sda": (8, 0), "loop0": (7, 0), "mem": (1, 1), "port": (1, 4)}
    kinds = {"mem": tarfile.CHRTYPE, "port": tarfile.CHRTYPE}
    nodes = [
        Entry(f"nodes/{name}", mode=0o666, type=kinds.get(name, tarfile.BLKTYPE), device=device)
        for name, device in numbers.items()
    ]
    offer(plane, images, "nodes:1", image([busybox_layer(), layer([directory("nodes"), *nodes])]))
    script = "for n in /nodes/*; do test -b $n -o -c $n && echo node; head -c 1 $n && echo OPENED $n; done; true"
    done = plane.cli("run", "--rm", "registry.test/nodes:1", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "node\n" * len(numbers)
    assert done.stderr.count("not permitted") + done.stderr.count("No such device") >= len(numbers)


@once
def test_layers_packed_by_zstd(plane: Plane, images: Registry) -> None:
    offer(plane, images, "zstd:1", image([busybox_layer(), layer([Entry("said", b"by zstd\n")])], packing="zstd"))
    assert plane.cli("run", "--rm", "registry.test/zstd:1", "--", "cat", "/said").stdout == "by zstd\n"
