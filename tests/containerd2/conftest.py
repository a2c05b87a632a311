from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containerd2.server import containerd2
from tests.instances.plane import VmPlane
from tests.oci.busybox import busybox_layer
from tests.oci.containerd import Containerd
from tests.oci.image import executable, image, layer
from tests.oci.registry import registry

from alcove.instances import pause

# Guest image and templates are kept there between runs.
STATE = Path("build/test-state")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VmPlane, Containerd]]:
    """The real server, whose pods are made by an operator's own containerd 2.x."""
    assert os.geteuid() == 0, "these tests start real machines: run them as root"
    folder = tmp_path_factory.mktemp("c2")
    with registry(folder / "registry") as images:
        images.push("busybox:1", image([busybox_layer()], {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}))
        images.push("pause:3.6", image([layer([executable("pause", pause.program())])], {"Entrypoint": ["/pause"]}))
        with containerd2(folder / "containerd", images, folder / "run") as running:
            plane = VmPlane(STATE.resolve(), folder / "run", containerd=str(running.socket))
            plane.start()
            try:
                yield plane, running
            finally:
                names = [one["metadata"]["name"] for one in plane.call("GET", "/alcove/v1/pods")["items"]]
                if names:
                    plane.cli("rm", "-f", *names)
                plane.stop()
                assert plane.leftovers() == []
