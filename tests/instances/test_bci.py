"""Stock baiducloud-python-sdk-bci against real containers: a group with all that a request may ask for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from baiducloud_python_sdk_bci import models
from baiducloud_python_sdk_bci.api.bci_client import BciClient
from baiducloud_python_sdk_core.auth.bce_credentials import BceCredentials
from baiducloud_python_sdk_core.bce_client_configuration import BceClientConfiguration
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane
from tests.oci.busybox import busybox_layer
from tests.oci.image import image
from tests.oci.registry import PASSWORD, USER, Registry, registry

# The SDK leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

WAIT_S = 90
SCRIPT = """
cat /config/greeting /scratch/prepared
echo ready > /scratch/ready
[ -e /scratch/failed ] || { touch /scratch/failed; exit 7; }
exec sleep 1000
"""


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def client_of(plane: Plane, tenant: str) -> Any:
    # The state is kept between runs.
    made = plane.call("POST", "/alcove/v1/tenants", {"name": f"{tenant}-{secrets.token_hex(4)}"})
    key = BceCredentials(made["key"]["access_key"], made["key"]["secret"])
    return BciClient(BceClientConfiguration(credentials=key, endpoint=plane.url))


def group() -> Any:
    mounts = [
        models.VolumeMount("scratch", "EmptyDir", "/scratch", False),
        models.VolumeMount("config", "ConfigFile", "/config", True),
    ]
    main = models.Container(
        name="main",
        image=BUSYBOX,
        cpu=0.5,
        memory=0.0625,
        commands=["sh", "-c", SCRIPT],
        volume_mounts=mounts,
        environment_vars=[models.Environment("WHO", "Ada")],
        readiness_probe=models.Probe(period_seconds=1, bci_exec=models.ExecAction(["test", "-e", "/scratch/ready"])),
    )
    first = models.Container(
        name="first", image=BUSYBOX, commands=["sh", "-c", "echo prepared > /scratch/prepared"], volume_mounts=mounts
    )
    greeting = models.ConfigFileDetail("greeting", "hello\n")
    volume = models.Volume(
        empty_dir=[models.EmptyDirVolume("scratch")], config_file=[models.ConfigFileVolume("config", 0o444, [greeting])]
    )
    return models.CreateInstanceRequest(
        "group", ["g-1"], ["sbn-1"], [main], volume, restart_policy="Always", init_containers=[first]
    )


def test_a_group_runs_restarts_and_goes(plane: Plane, images: Registry) -> None:
    client = client_of(plane, "bci")
    id = client.create_instance(group()).instance_id

    def container() -> Any:
        return client.get_instance(models.GetInstanceRequest(id)).instance.containers[0]

    one = until(lambda: (found := container()).restart_count == 1 and found.ready and found)
    assert (one.current_state.state, one.previous_state.exit_code) == ("Running", 7)
    listed = client.list_instances(models.ListInstancesRequest("podId", id)).result[0]
    assert (listed.status, listed.cpu, listed.memory) == ("Running", 0.5, 0.0625)
    assert listed.internal_ip.startswith("10.198.0.")
    client.batch_delete_instances(models.BatchDeleteInstancesRequest([id], True))
    until(lambda: not client.list_instances(models.ListInstancesRequest()).result)


def test_an_image_that_is_cached_needs_no_registry(plane: Plane, images: Registry) -> None:
    images.push("cached:1", image([busybox_layer()], {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}))
    client = client_of(plane, "caching")
    origin = [models.OriginImage("registry.test/cached", "1")]
    request = models.CreateImageCacheRequest("cache", origin, "sbn-1", "g-1", "zoneA", 20, False)
    cache = client.create_image_cache(request).image_cache_id
    until(lambda: client.list_image_caches(models.ListImageCachesRequest()).result[0].status == "创建成功")
    once = models.Container(
        name="main", image="registry.test/cached:1", image_pull_policy="Never", commands=["sh", "-c", "exit 0"]
    )
    id = client.create_instance(
        models.CreateInstanceRequest("once", [], [], [once], models.Volume(), restart_policy="Never")
    ).instance_id
    until(lambda: client.list_instances(models.ListInstancesRequest("podId", id)).result[0].status == "Succeeded")
    client.delete_instance(models.DeleteInstanceRequest(id))
    until(lambda: not client.list_instances(models.ListInstancesRequest()).result)
    client.batch_delete_image_caches(models.BatchDeleteImageCachesRequest([cache]))
    tags = [tag for one in plane.call("GET", "/alcove/v1/images")["items"] for tag in one["tags"]]
    assert "registry.test/cached:1" not in tags


def test_a_private_image_needs_its_tenant_s_credentials(plane: Plane, tmp_path: Path) -> None:
    with registry(tmp_path / "locked", locked=True) as locked:
        locked.push("private:1", image([busybox_layer()], {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}))
        owner, other = client_of(plane, "owner"), client_of(plane, "thief")
        name = f"{locked.host}/private:1"
        once = models.Container(name="main", image=name, commands=["sh", "-c", "exit 0"])

        def create(client: Any, secrets: list[Any]) -> str:
            request = models.CreateInstanceRequest(
                "private", [], [], [once], models.Volume(), restart_policy="Never", image_registry_credentials=secrets
            )
            return str(client.create_instance(request).instance_id)

        mine = create(owner, [models.ImageRegistryCredential(f"http://{locked.host}", USER, PASSWORD)])
        until(lambda: owner.list_instances(models.ListInstancesRequest("podId", mine)).result[0].status == "Succeeded")
        theirs = create(other, [])

        def reason() -> str:
            shown = other.get_instance(models.GetInstanceRequest(theirs)).instance
            return str(shown.containers[0].current_state.reason)

        until(lambda: reason() in ("ErrImagePull", "ImagePullBackOff"))
        assert name in [tag for one in plane.call("GET", "/alcove/v1/images")["items"] for tag in one["tags"]]
        for client in (owner, other):
            ids = [one.instance_id for one in client.list_instances(models.ListInstancesRequest()).result]
            client.batch_delete_instances(models.BatchDeleteInstancesRequest(ids))
            until(lambda client=client: not client.list_instances(models.ListInstancesRequest()).result)
