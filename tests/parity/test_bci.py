"""Stock baiducloud-python-sdk-bci: every call that it has, over a CRI without containers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from baiducloud_python_sdk_bci import models
from baiducloud_python_sdk_bci.api.bci_client import BciClient
from baiducloud_python_sdk_core.auth.bce_credentials import BceCredentials
from baiducloud_python_sdk_core.bce_client_configuration import BceClientConfiguration
from baiducloud_python_sdk_core.exception import BceHttpClientError
from tests.cri_fake import FakeCri
from tests.parity.conftest import Platform, serving
from tests.parity.signing import send
from tests.stock_clients.go import GoClient, Refused

from alcove.cli.client import Client

# The SDK leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

WAIT_S = 30
TRIED = 4


class V2Client(BciClient):
    """The same calls under the other version's path, as Baidu's documentation has them."""

    VERSION_V1 = b"/v2"
    # It finds its service's name by that.
    __module__ = BciClient.__module__


@dataclass
class Bci:
    platform: Platform
    cri: FakeCri = field(repr=False)

    def client(self, kind: type[Any] = BciClient, *, other: bool = False) -> Any:
        one = self.platform
        key = (one.other_access_key, one.other_secret) if other else (one.access_key, one.secret)
        return kind(BceClientConfiguration(credentials=BceCredentials(*key), endpoint=one.url))

    def send(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        one = self.platform
        body = b"" if document is None else json.dumps(document).encode()
        status, _, answer = send(one.port, method, path, body, access_key=one.access_key, secret=one.secret)
        return status, json.loads(answer)


@pytest.fixture(scope="module")
def bci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bci]:
    cri = FakeCri()
    with serving(tmp_path_factory.mktemp("bci"), cri) as platform:
        yield Bci(platform, cri)


@pytest.fixture(params=[BciClient, V2Client], ids=["v1", "v2"])
def client(bci: Bci, request: pytest.FixtureRequest) -> Any:
    return bci.client(request.param)


def asked(name: str = "web", command: list[str] | None = None, **more: Any) -> Any:
    container = models.Container(name="main", image="registry.test/web:1", commands=command or ["serve"])
    given: dict[str, Any] = {
        "security_group_ids": ["g-1"],
        "subnet_ids": ["sbn-1"],
        "containers": [container],
        "volume": models.Volume(),
        **more,
    }
    return models.CreateInstanceRequest(name, **given)


def get(client: Any, id: str) -> Any:
    """The SDK's model of the answer drops what InstanceModel has: ask for both."""
    return client.get_instance(models.GetInstanceRequest(id)).instance


def summary(client: Any, id: str) -> Any:
    found = client.list_instances(models.ListInstancesRequest(keyword_type="podId", keyword=id)).result
    return found[0] if found else None


def until(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def remove(client: Any, *ids: str) -> None:
    client.batch_delete_instances(models.BatchDeleteInstancesRequest(list(ids)))
    until(lambda: all(summary(client, one) is None for one in ids))


def refused(call: Any, *arguments: Any) -> tuple[str, int]:
    with pytest.raises(BceHttpClientError) as caught:
        call(*arguments)
    assert caught.value.request_id
    return caught.value.last_error.code, caught.value.last_error.status_code


def test_the_life_of_an_instance(client: Any, bci: Bci) -> None:
    request = asked("Life", tags=[models.Tag("team", "shop")], restart_policy="Never", zone_name="zoneA")
    id = client.create_instance(request).instance_id
    assert id.startswith("p-")
    one = until(lambda: (found := summary(client, id)).status == "Running" and found)
    assert (one.instance_name, one.internal_ip, one.restart_policy) == ("Life", "10.9.8.7", "Never")
    assert (one.zone_name, one.tags[0].tag_key, one.tags[0].tag_value) == ("zoneA", "team", "shop")
    detail = get(client, id)
    (container,) = detail.containers
    assert (container.current_state.state, container.ready, container.restart_count) == ("Running", True, 0)
    assert (container.commands, container.image) == (["serve"], "registry.test/web:1")
    assert detail.security_groups[0].security_group_id == "g-1"
    assert detail.subnet.subnet_id == "sbn-1"
    client.delete_instance(models.DeleteInstanceRequest(id, related_release_flag=True))
    until(lambda: summary(client, id) is None)
    assert refused(client.get_instance, models.GetInstanceRequest(id)) == ("ResourceNotFoundException", 404)
    assert not bci.cri.sandboxes


def test_all_that_a_request_may_say_is_told_again(client: Any, bci: Bci) -> None:
    files = [models.ConfigFileDetail("conf/a.txt", "text: é\n")]
    volume = models.Volume(
        nfs=[models.NfsVolume("share", "files.example", "/srv", True)],
        empty_dir=[models.EmptyDirVolume("scratch", "Memory", 0.5)],
        config_file=[models.ConfigFileVolume("files", 0o600, files)],
    )
    probe = models.Probe(2, 3, 4, 1, 5, 7, http_get=models.HTTPGetAction("/ok", 8080, http_headers=[]))
    container = models.Container(
        name="app",
        image="registry.test/app:1",
        memory=0.25,
        cpu=0.5,
        working_dir="/srv",
        image_pull_policy="IfNotPresent",
        args=["-v"],
        volume_mounts=[
            models.VolumeMount("scratch", "EmptyDir", "/scratch", False),
            models.VolumeMount("files", "ConfigFile", "/files", True),
            models.VolumeMount("share", "NFS", "/share", False),
        ],
        ports=[models.Port("http", 8080, "TCP")],
        environment_vars=[models.Environment("COLOUR", "red")],
        liveness_probe=probe,
        readiness_probe=models.Probe(grpc=models.GRPCAction(9000, "web")),
        startup_probe=models.Probe(bci_exec=models.ExecAction(["true"])),
        tty=True,
        security_context=models.ContainerSecurityContext(
            models.Capabilities(add=["NET_ADMIN"], drop=["ALL"]), 1000, 1000, True, True
        ),
    )
    init = models.Container(name="first", image="registry.test/app:1", commands=["exit", "0"])
    id = client.create_instance(
        asked("all", containers=[container], init_containers=[init], volume=volume, host_name="box")
    ).instance_id
    detail = get(client, id)
    (shown,) = detail.containers
    assert (shown.cpu, shown.memory, shown.working_dir, shown.args) == (0.5, 0.25, "/srv", ["-v"])
    assert [(one.name, one.type, one.mount_path, one.read_only) for one in shown.volume_mounts] == [
        ("scratch", "EmptyDir", "/scratch", False),
        ("files", "ConfigFile", "/files", True),
        ("share", "NFS", "/share", False),
    ]
    assert (shown.envs[0].key, shown.envs[0].value, shown.ports[0].port) == ("COLOUR", "red", 8080)
    assert detail.volume.to_dict() == volume.to_dict()
    assert [one.name for one in detail.init_containers] == ["first"]
    one = summary(client, id)
    assert (one.cpu, one.memory) == (0.5, 0.25)
    pod = bci.send("GET", "/alcove/v1/pods/all")[1]["spec"]
    told = pod["containers"][0]
    assert (told["livenessProbe"]["terminationGracePeriodSeconds"], told["readinessProbe"]["grpc"]["port"]) == (7, 9000)
    assert (told["securityContext"]["runAsUser"], pod["hostname"]) == (1000, "box")
    until(lambda: get(client, id).init_containers[0].current_state.state == "Terminated")
    remove(client, id)


def test_status_is_as_kubernetes_would_say_it(client: Any, bci: Bci) -> None:
    ended = client.create_instance(asked("ended", ["exit", "3"], restart_policy="Never")).instance_id
    again = client.create_instance(asked("again", ["exit", "1"])).instance_id
    lost = client.create_instance(
        asked("lost", containers=[models.Container(name="main", image="registry.test/missing:1")])
    ).instance_id
    until(lambda: summary(client, ended).status == "Failed")
    state = get(client, ended).containers[0].current_state
    assert (state.state, state.reason, state.exit_code) == ("Terminated", "Error", 3)
    waiting = until(
        lambda: (found := get(client, again).containers[0]).current_state.reason == "CrashLoopBackOff" and found
    )
    assert (waiting.current_state.state, waiting.previous_state.exit_code, waiting.ready) == ("Waiting", 1, False)
    until(lambda: get(client, lost).containers[0].current_state.reason == "ErrImagePull")
    status, told = bci.send("GET", f"/v2/instance/{lost}")
    assert status == 200
    assert "Failed" in [one["reason"] for one in told["instance"]["events"]]
    assert {one["type"] for one in told["instance"]["conditions"]} >= {"Ready", "Initialized", "PodScheduled"}
    remove(client, ended, again, lost)


def test_a_client_token_is_good_for_one_instance(client: Any, bci: Bci) -> None:
    request = asked("once", client_token=f"token-{client.VERSION_V1.decode()}")
    first = client.create_instance(request).instance_id
    assert client.create_instance(request).instance_id == first
    assert bci.client(other=True).create_instance(request).instance_id != first
    other = asked("twice", client_token=request.client_token)
    assert refused(client.create_instance, other) == ("IdempotentParameterMismatch", 409)
    named = bci.client(BciClient).list_instances(models.ListInstancesRequest(keyword="once")).result
    assert [one.instance_id for one in named] == [first]
    remove(client, first)
    assert client.create_instance(request).instance_id == first, "the answer stays, though the instance is gone"
    theirs = bci.client(other=True)
    remove(theirs, *(one.instance_id for one in theirs.list_instances(models.ListInstancesRequest()).result))


@pytest.mark.parametrize("token", ["x" * 65, "é"])
def test_a_token_that_is_none(bci: Bci, token: str) -> None:
    refusal = refused(bci.client().create_instance, asked(client_token=token))
    assert refusal == ("InvalidParameterValueException", 400)


def test_lists_have_pages_and_filters(client: Any) -> None:
    ids = [client.create_instance(asked(f"page-{number}")).instance_id for number in range(5)]
    found, marker = [], None
    while True:
        page = client.list_instances(models.ListInstancesRequest("name", "page-", marker, 2))
        found += [one.instance_id for one in page.result]
        assert page.max_keys == 2
        if not page.is_truncated:
            assert page.next_marker is None
            break
        marker = page.next_marker
        # What a page begins with may go before it is asked for.
        if len(found) == TRIED:
            remove(client, ids[0])
    assert found == ids[::-1][:TRIED]
    assert summary(client, ids[3][:9]).instance_name == "page-3"
    assert client.list_instances(models.ListInstancesRequest("name", "PAGE-4")).result[0].instance_id == ids[4]
    remove(client, *ids[1:])


def test_names_may_be_taken(client: Any) -> None:
    ids = [client.create_instance(asked("same")).instance_id for _ in range(2)]
    assert [summary(client, one).instance_name for one in ids] == ["same", "same"]
    remove(client, *ids)


def test_a_batch_is_deleted_whole_or_not_at_all(client: Any) -> None:
    ids = [client.create_instance(asked(f"batch-{number}")).instance_id for number in range(2)]
    request = models.BatchDeleteInstancesRequest([*ids, "p-0000000000000000"], True)
    assert refused(client.batch_delete_instances, request) == ("ResourceNotFoundException", 404)
    assert all(summary(client, one).status != "Terminating" for one in ids)
    remove(client, *ids)


def test_another_s_instances_and_caches_are_not_seen(bci: Bci) -> None:
    mine, theirs = bci.client(), bci.client(other=True)
    id = mine.create_instance(asked("mine")).instance_id
    cache = mine.create_image_cache(cache_request("mine", "registry.test/mine")).image_cache_id
    assert summary(theirs, id) is None
    assert theirs.list_image_caches(models.ListImageCachesRequest()).total_count == 0
    for call, request in (
        (theirs.get_instance, models.GetInstanceRequest(id)),
        (theirs.delete_instance, models.DeleteInstanceRequest(id)),
        (theirs.batch_delete_instances, models.BatchDeleteInstancesRequest([id])),
        (theirs.batch_delete_image_caches, models.BatchDeleteImageCachesRequest([cache])),
    ):
        assert refused(call, request) == ("ResourceNotFoundException", 404)
    remove(mine, id)
    mine.batch_delete_image_caches(models.BatchDeleteImageCachesRequest([cache]))


def test_who_does_not_sign_or_signs_badly_is_refused(bci: Bci) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", bci.platform.port)
    connection.request("GET", "/v2/instance")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (403, "AccessDenied")
    connection.close()
    config = BceClientConfiguration(
        credentials=BceCredentials(bci.platform.access_key, "x" * 40), endpoint=bci.platform.url
    )
    refusal = refused(BciClient(config).list_instances, models.ListInstancesRequest())
    assert refusal == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"auto_create_eip": True}, "Public addresses"),
        ({"eip_ip": "10.0.0.1"}, "Public addresses"),
        ({"gpu_type": "A10"}, "GPUs"),
        ({"containers": [models.Container(name="a", image="i", gpu=1)]}, "GPUs"),
        ({"restart_policy": "Sometimes"}, "restartPolicy"),
        ({"containers": []}, "containers"),
        ({"containers": [models.Container(name="a", image="i", memory=-1)]}, "memory"),
        ({"containers": [models.Container(name="a", image="i", cpu="1")]}, "$.containers[0].cpu"),
        ({"containers": [models.Container(name="a", image="not an image")]}, "image"),
        ({"containers": [models.Container(name="a", image="i", volume_mounts=[models.VolumeMount("v", "NFS", "/v")])],
          "volume": models.Volume(empty_dir=[models.EmptyDirVolume("v")])}, "EmptyDir"),
        ({"volume": models.Volume(config_file=[models.ConfigFileVolume("c", None,
          [models.ConfigFileDetail("../a", "x")])])}, "without .."),
        ({"volume": models.Volume(nfs=[models.NfsVolume("n", "no server", "/")])}, "server"),
        ({"tags": [models.Tag("a", "1"), models.Tag("a", "2")]}, "tagKey"),
        ({"name": "x"}, "2 to 252"),
        ({"name": "no/name"}, "name"),
    ],
)  # fmt: skip
def test_what_is_not_offered_or_wrong_is_refused_in_words(bci: Bci, more: dict[str, Any], part: str) -> None:
    with pytest.raises(BceHttpClientError) as caught:
        bci.client().create_instance(asked(more.pop("name", "refused"), **more))
    assert (caught.value.last_error.code, caught.value.last_error.status_code) == (
        "InvalidParameterValueException",
        400,
    )
    assert part in str(caught.value.last_error)


def test_a_tenant_has_a_quota_of_instances(bci: Bci) -> None:
    operator = Client(bci.platform.socket.parent)
    made = operator.call("POST", "/alcove/v1/tenants", {"name": "small", "quotas": {"instances": 1}})
    key = made["key"]
    config = BceClientConfiguration(
        credentials=BceCredentials(key["access_key"], key["secret"]), endpoint=bci.platform.url
    )
    client = BciClient(config)
    id = client.create_instance(asked("one")).instance_id
    assert refused(client.create_instance, asked("two")) == ("LimitExceededException", 400)
    remove(client, id)
    client.create_instance(asked("two"))
    client.create_image_cache(cache_request("theirs", "registry.test/theirs"))
    until(lambda: "registry.test/theirs:1" in bci.cri.images)
    operator.call("DELETE", f"/alcove/v1/tenants/{made['id']}?force=true")
    until(lambda: "registry.test/theirs:1" not in bci.cri.images)
    assert not [one for one in bci.cri.sandboxes.values() if one["metadata"]["namespace"] == made["id"]]


def test_each_change_is_in_the_audit(bci: Bci) -> None:
    client = bci.client()
    id = client.create_instance(asked("noted")).instance_id
    remove(client, id)
    lines = bci.send("GET", "/alcove/v1/audit?tail=50")[1]["lines"]
    told = [(one["operation"], one["outcome"]) for one in lines if id in one["resource"]]
    assert told == [("bci.create_instance", "done"), ("bci.batch_delete_instances", "done")]


def test_the_client_for_go_has_all_that_it_asks_for(bci: Bci) -> None:
    """Its fields are never null, and it misspells some."""
    one = bci.platform
    probe = {"httpGet": {"path": "/", "port": 80, "httpHeaders": {"name": "X-A", "value": "1"}}}
    container = {
        "name": "main",
        "image": "registry.test/web:1",
        "cpu": 0.5,
        "memory": 1,
        "livenessProbe": probe,
        "readinessProbe": {"grpc": {"port": 9000, "Service": "web"}},
        "volumeMounts": [{"name": "files", "type": "ConfigFile", "mountPath": "/config"}],
        "securityContext": {"runAsUser": 1000},
    }
    files = [{"name": "files", "configFiles": [{"path": "a", "file": "filenxx"}]}]
    asked = {
        "name": "Go",
        "subnetIds": ["sbn-1"],
        "securityGroupIds": ["g-1"],
        "containers": [container],
        "tags": [{"tagKey": "a", "tagValue": "b"}],
        "volume": {"nfs": [], "emptyDir": [], "configFile": files},
    }
    with GoClient(one.url, one.access_key, one.secret, "bci") as go:
        assert go.methods == {
            *("CreateInstance", "ListInstances", "GetInstance", "DeleteInstance", "BatchDeleteInstance"),
        }
        id = go("CreateInstance", asked)["instanceId"]
        until(lambda: go("ListInstances", {"keyword": "go"})["result"][0]["status"] == "Running")
        shown = go("GetInstance", {"instanceId": id})["instance"]
        assert (shown["instanceName"], shown["containers"][0]["currentState"]["state"]) == ("Go", "Running")
        assert shown["volume"]["configFile"][0]["configFiles"] == files[0]["configFiles"]
        pod = bci.send("GET", "/alcove/v1/pods/go")[1]["spec"]["containers"][0]
        assert pod["livenessProbe"]["httpGet"]["httpHeaders"] == [{"name": "X-A", "value": "1"}]
        assert pod["readinessProbe"]["grpc"]["service"] == "web"
        go("DeleteInstance", {"instanceId": id, "relatedReleaseFlag": True})
        other = go("CreateInstance", {**asked, "name": "other"})["instanceId"]
        go("BatchDeleteInstance", {"instanceIds": [other], "relatedReleaseFlag": True})
        until(lambda: "result" not in go("ListInstances", {}))
        with pytest.raises(Refused) as caught:
            go("GetInstance", {"instanceId": id})
        assert (caught.value.code, caught.value.status) == ("ResourceNotFoundException", 404)


# Replicas of a group, which Baidu's clients have no call for


def test_a_group_has_as_many_replicas_as_are_asked_for(bci: Bci) -> None:
    body = {"name": "crew", "containers": [{"name": "main", "image": "registry.test/web:1"}], "replicas": 3}
    status, made = bci.send("POST", "/v2/instance", body)
    assert (status, len(set(made["instanceIds"])), made["instanceIds"][0]) == (200, 3, made["instanceId"])

    def names(count: int) -> list[str]:
        status, told = bci.send("PUT", "/alcove/v1/pods/crew/replicas", {"replicas": count})
        assert status == 200, told
        return [one["metadata"]["name"] for one in told["items"]]

    assert len(names(5)) == 5
    assert names(1) == ["crew"]
    assert names(0) == []
    client = bci.client()
    until(lambda: not client.list_instances(models.ListInstancesRequest(keyword="crew")).result)


# Images


def cache_request(name: str, *images: str, secrets: list[Any] | None = None) -> Any:
    origins = [models.OriginImage(one, "1") for one in images]
    return models.CreateImageCacheRequest(
        name, origins, "sbn-1", "g-1", "zoneA", 20, False, image_registry_secrets=secrets
    )


def caches(client: Any, **page: Any) -> Any:
    return client.list_image_caches(models.ListImageCachesRequest(**page))


def test_an_image_cache_fetches_ahead_and_cleans_up(client: Any, bci: Bci) -> None:
    id = client.create_image_cache(cache_request("ahead", "registry.test/ahead", "registry.test/more")).image_cache_id
    until(lambda: caches(client).result[0].status == "创建成功")
    (one,) = caches(client).result
    assert (one.image_cache_id, one.progress) == (id, 100)
    assert one.origin_images == ["registry.test/ahead:1", "registry.test/more:1"]
    assert set(one.origin_images) <= set(bci.cri.images)
    pulls = len(bci.cri.pulls)
    container = models.Container(name="main", image="registry.test/ahead:1")
    instance = client.create_instance(asked("cached", containers=[container])).instance_id
    until(lambda: summary(client, instance).status == "Running")
    assert len(bci.cri.pulls) == pulls, "what is cached is not fetched again"
    assert caches(client).result[0].lastest_matched_time
    client.batch_delete_image_caches(models.BatchDeleteImageCachesRequest([id]))
    assert caches(client).total_count == 0
    assert "registry.test/ahead:1" in bci.cri.images, "a pod uses it"
    assert "registry.test/more:1" not in bci.cri.images
    remove(client, instance)


def test_a_cache_that_cannot_be_made_says_so(client: Any) -> None:
    ids = [client.create_image_cache(cache_request(f"c{one}", "registry.test/missing")).image_cache_id for one in "ab"]
    until(lambda: all(one.status == "创建失败" for one in caches(client).result))
    page = caches(client, page_no=2, page_size=1)
    assert (page.total_count, page.page_no, page.page_size, len(page.result)) == (2, 2, 1, 1)
    client.batch_delete_image_caches(models.BatchDeleteImageCachesRequest(ids))
    refusal = refused(client.create_image_cache, cache_request("none"))
    assert refusal == ("InvalidParameterValueException", 400)


def test_a_private_image_is_for_those_whom_its_registry_lets_have_it(bci: Bci) -> None:
    """One tenant's credentials fetch it; for another it is as if it were not here."""
    bci.cri.locked["registry.test/private"] = "ada"
    mine, theirs = bci.client(), bci.client(other=True)
    image = models.Container(name="main", image="registry.test/private:1")
    secret = models.ImageRegistryCredential("https://registry.test", "ada", "secret-word")
    id = mine.create_instance(asked("owner", containers=[image], image_registry_credentials=[secret])).instance_id
    until(lambda: summary(mine, id).status == "Running")
    assert "secret-word" not in json.dumps(bci.send("GET", f"/v2/instance/{id}"))
    assert "secret-word" not in json.dumps(bci.send("GET", "/alcove/v1/pods/owner"))
    thief = theirs.create_instance(asked("thief", containers=[image])).instance_id
    until(lambda: get(theirs, thief).containers[0].current_state.reason == "ErrImagePull")
    by_id = models.Container(name="main", image=bci.cri.images["registry.test/private:1"]["id"].replace("/", "-"))
    bci.cri.images[by_id.image] = bci.cri.images["registry.test/private:1"]
    bci.cri.locked["docker.io/library/sha256"] = "nobody"
    crafty = theirs.create_instance(asked("crafty", containers=[by_id])).instance_id
    until(lambda: get(theirs, crafty).containers[0].current_state.reason == "ErrImagePull")
    remove(mine, id)
    remove(theirs, thief, crafty)
