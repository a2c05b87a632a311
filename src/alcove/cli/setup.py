"""``alcove setup``: what other programs must be told to work with Alcove."""

from __future__ import annotations

from pathlib import Path

import click

from alcove.cli.options import run_option
from alcove.instances import containerd_config, launcher

# Where our programs go where nothing is said.
PROGRAMS = Path("/usr/local/lib/alcove")


@click.group()
def group() -> None:
    """Print what other programs must be told."""


@group.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write the files into this folder.")
@click.option(
    "--config-version",
    type=click.Choice(["2", "3"]),
    default="2",
    help="Of your config.toml; 3 needs containerd 2.",
)
@run_option
def containerd(out: Path | None, config_version: str, run: Path) -> None:
    """Print how your own containerd, and Kubernetes, get to know the isolation tiers.

    \b
    Examples:
      alcove setup containerd
      alcove setup containerd --out /etc/alcove && kubectl apply -f /etc/alcove/runtimeclasses.yaml
      alcove setup containerd --config-version 3
      alcove serve --containerd /run/containerd/containerd.sock
    """
    programs = launcher.programs(run)
    folder = (out or PROGRAMS).absolute()
    files = {
        "containerd.toml": containerd_config.fragment(folder, int(config_version)),
        "runtimeclasses.yaml": containerd_config.runtime_classes(),
    }
    if out is None:
        texts = files | {f"{folder}/{name} (mode 755; --out writes it)": text for name, text in programs.items()}
        click.echo("\n".join(f"# {name}\n{text}" for name, text in texts.items()))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text)
    launcher.write(out, run)
    for name in (*files, *programs):
        click.echo(str(out / name))
