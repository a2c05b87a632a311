"""``alcove serve``: the one process that runs everything, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from alcove.cli.exits import OK
from alcove.errors import Conflict, HostError
from alcove.host.checks import check_port
from alcove.settings import Settings, load_settings, settings

log = logging.getLogger("alcove")


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add a flag for each row of the settings."""
    for one in reversed(list(settings())):
        shown = one.show(one.default) or "none"
        text = f"{one.row.help} [default: {shown}]"
        function = click.option(one.flag, one.name, metavar="VALUE", help=text)(function)
    return function


@click.command("serve")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
@click.option("--pool", metavar="N", help="The size of every pool: short for the three --pool-*.")
@settings_options
def serve_command(config: Path | None, pool: str | None, **given: str | None) -> None:
    """Run the server until SIGTERM or Ctrl-C. Needs root.

    \b
    Examples:
      alcove serve
      alcove serve --state /srv/alcove --listen 0.0.0.0:9600 --pool 2
    """
    flags = {name: value for name, value in given.items() if value is not None}
    if pool is not None:
        for name in ("pool_python", "pool_nodejs", "pool_provided"):
            flags.setdefault(name, pool)
    chosen = load_settings(file=config, environment=os.environ, flags=flags)
    _require_root()
    _set_up_logging(chosen.log_level)
    with only_server(chosen):
        _require_port(chosen)
        run_server(chosen)
    sys.exit(OK)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise HostError(
            "the server needs root: it makes virtual machines, networks and cgroups",
            hint="run: sudo alcove serve",
        )


def _require_port(chosen: Settings) -> None:
    for address in (chosen.listen, chosen.s3_listen):
        if address.port:
            check = check_port(*address)
            if not check.ok:
                raise HostError(f"can't listen on {address}: {check.found}", hint=check.mend)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    # At debug, qemu.qmp logs every byte of every monitor, and asyncio every poll.
    for name in ("qemu", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def only_server(chosen: Settings) -> Iterator[None]:
    """Hold the locks on the state folder and ``daemon.pid``; ``Conflict`` where another does.

    The kernel frees the locks of a process that is killed, so a stale file never blocks a start.
    """
    for folder in (chosen.state, chosen.run):
        _make_private(folder)
    with _locked(chosen.state / ".lock", chosen), _locked(chosen.pid_file, chosen) as pid_file:
        os.ftruncate(pid_file, 0)
        os.pwrite(pid_file, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            chosen.pid_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, chosen: Settings) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"a server runs already with {path.parent}",
                hint="stop it, or choose other folders with --state and --run",
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    from alcove.host.files import private_folder

    try:
        private_folder(folder)
    except OSError as error:
        raise HostError(
            f"the folder {folder} can't be used: {error.strerror or error}",
            hint="choose another with --state or --run",
        ) from error


def run_server(chosen: Settings) -> None:
    """Run until SIGTERM or SIGINT: the first begins the shut-down, later ones change nothing."""
    import uvloop

    uvloop.run(_until_signal(chosen))


async def _until_signal(chosen: Settings) -> None:
    loop = asyncio.get_running_loop()
    server = asyncio.ensure_future(serve(chosen))
    signalled = False

    def stop(number: signal.Signals) -> None:
        nonlocal signalled
        if not signalled:
            signalled = True
            log.info("%s: shutting down", number.name)
            server.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await server
    except asyncio.CancelledError:
        if not signalled:
            raise
    log.info("stopped")


async def serve(chosen: Settings) -> None:
    """Start the daemon, run it, and shut it down however this ends. Cancel to stop."""
    from alcove.daemon import Daemon

    async with Daemon(chosen) as daemon:
        await daemon.run_until_stopped()
