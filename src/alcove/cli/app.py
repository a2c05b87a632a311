"""The root of the commands: a group that imports a subcommand when it is asked for."""

from __future__ import annotations

import importlib
import sys

import click

from alcove.cli import exits
from alcove.errors import AlcoveError

# name: (module, attribute, one line of help). The help stands here so that listing imports nothing.
COMMANDS = {
    "serve": ("alcove.cli.serve", "serve_command", "Run the server."),
    "fn": ("alcove.cli.functions", "group", "Deploy, call and look at functions."),
    "ps": ("alcove.cli.instances", "ps", "List the sandboxes that run now."),
    "run": ("alcove.cli.run", "run_command", "Run a container image, in a machine of its own."),
    "apply": ("alcove.cli.instance", "apply", "Make instances of Kubernetes' Pod manifests."),
    "logs": ("alcove.cli.instance", "logs", "Print what an instance printed."),
    "exec": ("alcove.cli.instance", "exec_command", "Run a program in an instance."),
    "stop": ("alcove.cli.instance", "stop", "Stop an instance and remove it."),
    "rm": ("alcove.cli.instance", "remove", "Remove instances."),
    "scale": ("alcove.cli.instance", "scale", "Make copies of an instance, or remove some."),
    "cp": ("alcove.cli.instance_files", "copy", "Copy files into and out of an instance."),
    "stats": ("alcove.cli.instance_stats", "stats", "Print what instances use."),
    "port-forward": ("alcove.cli.port_forward", "port_forward", "Make a port of an instance one of this host."),
    "images": ("alcove.cli.images", "images", "List the images of containers that are here."),
    "pull": ("alcove.cli.images", "pull", "Fetch an image."),
    "cache": ("alcove.cli.images", "cache", "Look at the images' disk, remove images."),
    "setup": ("alcove.cli.setup", "group", "Print what containerd and Kubernetes must be told."),
    "inspect": ("alcove.cli.instance", "inspect", "Print all that is known of an instance."),
    "env": ("alcove.cli.environment", "env", "Print the exports that point SDKs here."),
    "doctor": ("alcove.cli.doctor", "doctor", "Say what this machine can do and what it lacks."),
    "image": ("alcove.cli.image", "group", "Build and list guest images."),
    "alias": ("alcove.cli.alias", "group", "Name versions, and share calls between two."),
    "layer": ("alcove.cli.layer", "group", "Share packages between functions."),
    "permission": ("alcove.cli.permission", "group", "Say who else may call a function."),
    "bucket": ("alcove.cli.bucket", "group", "Store objects, and have functions called when they change."),
    "timer": ("alcove.cli.timer", "group", "Have functions called by the clock."),
    "flow": ("alcove.cli.flow", "group", "Put functions together to flows, and run them."),
    "url": ("alcove.cli.url", "group", "Give functions URLs of their own."),
    "route": ("alcove.cli.route", "group", "Have functions answer a host and path."),
    "queue": ("alcove.cli.queue", "group", "Make queues, send and receive messages."),
    "mapping": ("alcove.cli.mapping", "group", "Have functions called by queues and streams."),
    "tenant": ("alcove.cli.tenant", "group", "Say who may use this server, and how much."),
    "usage": ("alcove.cli.usage", "usage", "Print what was used, and the bill."),
    "audit": ("alcove.cli.audit", "audit", "Print who changed what."),
    "kernel": ("alcove.cli.kernel", "group", "Kernels for functions that need one of their own."),
    "policy": ("alcove.cli.policy", "group", "Isolation rules: check, explain, show, floors."),
    "bench": ("alcove.bench.cli", "group", "Measure start-up times, density and bursts."),
    "settings": ("alcove.cli.reference", "settings_command", "Print the server's settings."),
    "completion": ("alcove.cli.completion", "completion", "Print a shell's completion script."),
    "version": ("alcove.cli.reference", "version", "Print the version."),
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def root() -> None:
    """Functions, each in a virtual machine of its own.

    \b
    Examples:
      alcove serve
      alcove fn deploy ./hello --runtime python3.11 --handler app.handler
      alcove fn invoke hello '{"name": "Ada"}'
      eval "$(alcove env)"        # point boto3 and the Baidu SDK here

    \b
    Exit codes: 0 done, 1 the function failed, 2 wrong usage, 3 not found,
    4 server unreachable, 5 refused, 6 the server or this machine failed.
    """


def main() -> None:
    """Run the command; turn errors raised on purpose into a message, a hint and an exit code."""
    try:
        root(prog_name="alcove")
    except AlcoveError as error:
        sys.exit(exits.report(error))
