"""NFS volumes of instances, by manifests and by BCI's stock client: mounted, awaited, and left behind while the server
answers nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from baiducloud_python_sdk_bci import models
from tests.instances.conftest import BUSYBOX
from tests.instances.plane import Plane
from tests.instances.test_bci import client_of, until
from tests.instances.traces import settled, shims, traces
from tests.machine.lab import command
from tests.machine.nfs_server import NfsServer, nfs_server

pytestmark = [
    pytest.mark.parametrize("plane", ["vm"], indirect=True, scope="package"),
    # The SDK leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

NAMESPACE, LINK = "alcove-test-nfs", "alcnfstest"
HOST, SERVER = "10.79.0.1", "10.79.0.2"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: main, image: {image}, command: [sh, -c, '{script}'], volumeMounts: [{{name: data, mountPath: /data}}],
     resources: {{limits: {{ephemeral-storage: 4Mi}}}}}}
  - {{name: other, image: {image}, command: [sleep, '1000']}}
  volumes:
  - {{name: data, nfs: {{server: {server}, path: {path}}}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NfsServer]:
    """A machine beside this one, which pods reach as they reach others."""
    command("ip", "netns", "add", NAMESPACE)
    try:
        command("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        command("ip", "addr", "add", f"{HOST}/24", "dev", LINK)
        command("ip", "link", "set", LINK, "up")
        for line in ("link set lo up", f"addr add {SERVER}/24 dev eth0", "link set eth0 up"):
            command("ip", "-n", NAMESPACE, *line.split())
        with nfs_server(tmp_path_factory.mktemp("nfs"), SERVER, port=2049, namespace=NAMESPACE) as running:
            (running.exported / "hello").write_text("from the server\n")
            yield running
    finally:
        command("ip", "netns", "del", NAMESPACE)
        subprocess.run(["ip", "link", "del", LINK], capture_output=True, check=False)


def apply(plane: Plane, name: str, script: str, *, path: str = "/data") -> None:
    text = POD.format(name=name, image=BUSYBOX, script=script, server=SERVER, path=path)
    done = plane.cli("apply", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr


def runs(plane: Plane, name: str) -> Callable[[], bool]:
    return lambda: plane.pod(name)["status"]["phase"] == "Running"


def events(plane: Plane, name: str) -> str:
    return "\n".join(f"{one}" for one in plane.call("GET", f"/alcove/v1/pods/{name}/events")["items"])


def test_a_volume_is_shared_by_manifest_and_by_bci(plane: Plane, server: NfsServer) -> None:
    apply(plane, "writer", "cp /data/hello /data/copy && exec sleep 1000")
    until(runs(plane, "writer"))
    script = "cat /data/copy; touch /data/touched; [ ! -e /data/touched ]"
    mount = models.VolumeMount("share", "NFS", "/data")
    main = models.Container(name="main", image=BUSYBOX, commands=["sh", "-c", script], volume_mounts=[mount])
    volume = models.Volume(nfs=[models.NfsVolume("share", SERVER, "/data", True)])
    client = client_of(plane, "nfs")
    id = client.create_instance(
        models.CreateInstanceRequest("reader", [], [], [main], volume, restart_policy="Never")
    ).instance_id

    def status() -> str:
        return str(client.list_instances(models.ListInstancesRequest("podId", id)).result[0].status)

    until(lambda: status() in ("Succeeded", "Failed"))
    assert status() == "Succeeded"
    assert (server.exported / "copy").read_text() == "from the server\n"
    client.delete_instance(models.DeleteInstanceRequest(id))
    # What a container writes beside its volumes has the limit of its manifest; the pod's others do not notice.
    fill = "dd if=/dev/zero of=/fill bs=4096 count=1280; wc -c < /fill"
    full = plane.cli("exec", "-c", "main", "writer", "--", "sh", "-c", fill)
    assert (full.stdout.strip(), "Disk quota exceeded" in full.stderr) == (str(4 << 20), True)
    other = plane.cli("exec", "-c", "other", "writer", "--", "sh", "-c", fill)
    assert other.stdout.strip() == str(5 << 20)
    assert plane.cli("rm", "-f", "writer").returncode == 0


def test_what_is_not_there_yet_is_waited_for(plane: Plane, server: NfsServer) -> None:
    apply(plane, "early", "cat /data/late; exec sleep 1000", path="/data/later")
    until(lambda: "FailedMount" in events(plane, "early"))
    assert f'volume "data": {SERVER}:/data/later: No such file' in events(plane, "early")
    assert plane.pod("early")["status"]["phase"] == "Pending"
    (server.exported / "later").mkdir()
    until(runs(plane, "early"))
    assert plane.cli("rm", "-f", "early").returncode == 0


def test_pods_are_left_while_their_server_answers_nobody(plane: Plane, server: NfsServer) -> None:
    """One is deleted, the other loses its shim; what they have not written yet keeps neither here."""
    before = traces(plane)
    # Each line is written through before the next. Whoever waits for that does not end by SIGKILL.
    write = "exec 3> /data/$HOSTNAME; while true; do echo x >&3; done"
    for name in ("deleted", "shimless"):
        apply(plane, name, write)
    for name in ("deleted", "shimless"):
        until(lambda file=server.exported / name: file.exists() and file.stat().st_size)
        until(runs(plane, name))
    pids = shims(plane)
    server.stall()
    try:
        # A neighbour in the pod goes on.
        assert plane.cli("exec", "-c", "other", "deleted", "--", "echo", "here").stdout == "here\n"
        for name in ("deleted", "shimless"):
            plane.call("DELETE", f"/alcove/v1/pods/{name}?grace=0")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)
        assert settled(plane, before, 60) == [], plane.tail()
    finally:
        server.go_on()
