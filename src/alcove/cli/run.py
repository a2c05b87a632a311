"""``alcove run``: a container image in a machine of its own, as one would run a program."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import click

from alcove.cli import output, pod_client
from alcove.cli.client import Client
from alcove.cli.options import TIERS, run_option
from alcove.cli.terminal import attach, talk
from alcove.errors import AlcoveError, Conflict, InvalidRequest

DAYS_S = 30 * 86_400.0
SIGNALS = 128


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("image")
@click.argument("command", nargs=-1)
@click.option("--name", default="", help="The instance's name; one is made up otherwise.")
@click.option("--cpus", type=float, default=0.0, help="Processors that it may use.")
@click.option("--memory", default="", metavar="QUANTITY", help="Memory that it may use, such as 256Mi.")
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of its environment.")
@click.option("-v", "--volume", "mounts", multiple=True, metavar="PATH:PATH[:ro]", help="A path of this host in it.")
@click.option("-p", "--publish", "ports", multiple=True, metavar="[HOST:]HOSTPORT:PORT", help="A port of this host.")
@click.option("-w", "--workdir", default="", help="The folder that it begins in.")
@click.option("-u", "--user", default="", metavar="UID[:GID]", help="The user that it runs as.")
@click.option("--entrypoint", default="", help="The program in place of the image's.")
@click.option("--isolation", type=TIERS, help="Tier; the server's default is vm. kata: where it is installed.")
@click.option("--kernel", default="", help="A registered kernel (alcove kernel) for its VM.")
@click.option("-i", "--stdin", is_flag=True, help="Hand our stdin on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal; with -i ours is joined to it.")
@click.option("--rm", "removed", is_flag=True, help="Remove the instance when it has ended.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait for it; print its name.")
@click.option("--restart", type=click.Choice(["no", "on-failure", "always"]), default="no", show_default=True)
@run_option
def run_command(run: Path, image: str, detach: bool, removed: bool, isolation: str | None, **given: Any) -> None:
    """Run IMAGE, in a machine of its own, print what it prints, and end as it ends.

    \b
    Examples:
      alcove run --rm debian:12 -- uname -a
      alcove run --name web -d -p 8080:80 nginx
      alcove run --rm --isolation process -e WHO=Ada busybox -- sh -c 'echo $WHO'

    The exit code is the program's.
    """
    client = Client(run, timeout_s=DAYS_S)
    made = client.call("POST", _create_path(isolation), manifest(image, **given))
    name = made["metadata"]["name"]
    if detach:
        pod_client.await_start(client, name, output.note)
        click.echo(name)
        return
    if given["stdin"]:
        sys.exit(_join(client, run, name, removed=removed, tty=given["tty"]))
    sys.exit(_attend(client, name, removed=removed))


def _create_path(isolation: str | None) -> str:
    return f"{pod_client.PODS}?isolation={isolation}" if isolation else pod_client.PODS


def _join(client: Client, run: Path, name: str, *, removed: bool, tty: bool) -> int:
    """Take part in its streams. Without a terminal its log is what we print, so that nothing from before is lost; on
    one what is typed must be seen at once.
    """
    tenant = os.environ.get("ALCOVE_TENANT", "")
    path = pod_client.path(name, "attach", stdin=True, tty=tty)
    try:
        pod_client.await_start(client, name, output.note)
        if tty:
            printed = False
            with contextlib.suppress(Conflict):
                printed = attach(run, path, tenant=tenant, terminal=sys.stdout.isatty())
            if not printed:
                # It ended sooner than we were there.
                pod_client.follow(client, name, follow=True)
        else:
            threading.Thread(target=_feed, args=(run, path, tenant), daemon=True).start()
            pod_client.follow(client, name, follow=True)
        return pod_client.exit_code(client, name)
    finally:
        if removed:
            pod_client.remove(client, name, grace_s=0)


def _feed(run: Path, path: str, tenant: str) -> None:
    # A program that has ended already needs no input.
    with contextlib.suppress(AlcoveError, OSError):
        talk(run, path, tenant=tenant, stdin=True, silent=True)


def _attend(client: Client, name: str, *, removed: bool) -> int:
    try:
        pod_client.await_start(client, name, output.note)
        pod_client.follow(client, name, follow=True)
        return pod_client.exit_code(client, name)
    except KeyboardInterrupt:
        output.note(f"stopping {name}")
        pod_client.remove(client, name)
        return SIGNALS + 2
    except AlcoveError:
        removed = True
        raise
    finally:
        if removed:
            pod_client.remove(client, name, grace_s=0)


def manifest(image: str, **given: Any) -> dict[str, Any]:
    """Return the Pod manifest of a command line."""
    volumes, mounts = _mounts(given["mounts"])
    container = {
        "name": "main",
        "image": image,
        "command": [given["entrypoint"]] if given["entrypoint"] else [],
        "args": list(given["command"][1:] if given["command"][:1] == ("--",) else given["command"]),
        "stdin": given["stdin"],
        "stdinOnce": given["stdin"],
        "tty": given["tty"],
        "workingDir": given["workdir"],
        "env": [_variable(text) for text in given["variables"]],
        "ports": [_port(text) for text in given["ports"]],
        "resources": {"limits": _limits(given["cpus"], given["memory"])},
        "volumeMounts": mounts,
        "securityContext": _user(given["user"]),
    }
    policy = {"no": "Never", "on-failure": "OnFailure", "always": "Always"}[given["restart"]]
    metadata: dict[str, Any] = {"name": given["name"]} if given["name"] else {"generateName": "run-"}
    if given["kernel"]:
        metadata["annotations"] = {"io.alcove.kernel": given["kernel"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], "restartPolicy": policy, "volumes": volumes},
    }


def _variable(text: str) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequest(f"-e {text!r} gives no value", hint="write NAME=VALUE")
    return {"name": name, "value": value}


def _limits(cpus: float, memory: str) -> dict[str, Any]:
    return {key: value for key, value in (("cpu", cpus), ("memory", memory)) if value}


def _port(text: str) -> dict[str, Any]:
    port, _, protocol = text.partition("/")
    parts = port.rsplit(":", 2)
    if len(parts) < 2 or not all(part.isdecimal() for part in parts[-2:]):
        raise InvalidRequest(f"-p {text!r} names no two ports", hint="write HOSTPORT:PORT, such as 8080:80")
    found: dict[str, Any] = {"hostPort": int(parts[-2]), "containerPort": int(parts[-1])}
    if len(parts) == 3:
        found["hostIP"] = parts[0]
    return found | ({"protocol": protocol.upper()} if protocol else {})


def _mounts(given: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes, mounts = [], []
    for number, text in enumerate(given):
        parts = text.split(":")
        if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
            hint = "write /path/here:/path/there, with :ro to read only"
            raise InvalidRequest(f"-v {text!r} names no two paths", hint=hint)
        name = f"v{number}"
        volumes.append({"name": name, "hostPath": {"path": str(Path(parts[0]).resolve())}})
        mounts.append({"name": name, "mountPath": parts[1], "readOnly": parts[2:] == ["ro"]})
    return volumes, mounts


def _user(text: str) -> dict[str, int]:
    if not text:
        return {}
    uid, _, gid = text.partition(":")
    if not uid.isdecimal() or (gid and not gid.isdecimal()):
        raise InvalidRequest(f"-u {text!r} is no number", hint="write the numbers UID or UID:GID")
    return {"runAsUser": int(uid)} | ({"runAsGroup": int(gid)} if gid else {})
