from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.instances.plane import Plane, VmPlane
from tests.oci.busybox import busybox_layer
from tests.oci.image import image
from tests.oci.registry import Registry, registry

BUSYBOX = "registry.test/busybox:1"
# Guest image and templates are kept there between runs.
STATE = Path("build/test-state")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/instances/" in str(item.path):
            item.add_marker(pytest.mark.machine)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        running.push("busybox:1", image([busybox_layer()], {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}))
        yield running


@pytest.fixture(scope="package", params=["process", "vm"])
def plane(
    request: pytest.FixtureRequest, images: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plane]:
    """A control plane with a private containerd whose pods are in this tier; at the end all pods are removed, and
    nothing is left.
    """
    assert os.geteuid() == 0, "these tests start containers: run them as root"
    plane = make_plane(tmp_path_factory.mktemp("plane"), images, request.param)
    plane.start()
    try:
        # What a run that was killed has left.
        clear(plane)
        yield plane
    finally:
        clear(plane)
        plane.stop()
        assert plane.leftovers() == []


def make_plane(folder: Path, images: Registry, isolation: str) -> Plane:
    settings = {
        "registry_mirrors": f"*=http://{images.host}",
        "instance_subnet": "10.198.0.0/24",
        "instance_isolation": isolation,
    }
    if isolation == "vm":
        # What a run that was killed has left is found where it was.
        return VmPlane(STATE.resolve(), STATE.resolve() / "run-instances", **settings)
    return Plane(folder / "state", folder / "run", **settings)


def clear(plane: Plane) -> None:
    names = [one["metadata"]["name"] for one in plane.call("GET", "/alcove/v1/pods")["items"]]
    if names:
        plane.cli("rm", "-f", *names)
