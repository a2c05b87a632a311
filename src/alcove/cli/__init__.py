"""The ``alcove`` command.

Each subcommand lives in a module of its own, imported when it is called: ``alcove fn invoke`` loads
neither the server nor rich.
"""

from alcove.cli.app import main

__all__ = ["main"]
