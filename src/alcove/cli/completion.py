"""``alcove completion``: the script that a shell sources."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of SHELL: commands, options, and the names that the server knows.

    \b
    Examples:
      eval "$(alcove completion bash)"
      alcove completion fish > ~/.config/fish/completions/alcove.fish
    """
    from alcove.cli.app import root

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root, {}, "alcove", "_ALCOVE_COMPLETE").source())
