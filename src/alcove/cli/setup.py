"""``alcove setup``: what other programs must be told to work with Alcove."""

from __future__ import annotations

from pathlib import Path

import click

from alcove.instances import containerd_config


@click.group()
def group() -> None:
    """Print what other programs must be told."""


@group.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write the files into this folder.")
def containerd(out: Path | None) -> None:
    """Print how your own containerd, and Kubernetes, get to know the isolation tiers.

    \b
    Examples:
      alcove setup containerd
      alcove setup containerd --out ./setup && kubectl apply -f ./setup/runtimeclasses.yaml
      alcove serve --containerd /run/containerd/containerd.sock
    """
    head = "# Put this into /etc/containerd/config.toml (version 2), then restart containerd.\nversion = 2\n"
    files = {
        "containerd.toml": head + containerd_config.runtimes(None) + "\n",
        "runtimeclasses.yaml": containerd_config.runtime_classes(),
    }
    if out is None:
        click.echo("\n".join(f"# {name}\n{text}" for name, text in files.items()))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text)
        click.echo(str(out / name))
