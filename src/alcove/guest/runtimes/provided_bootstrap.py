"""The tenant's own ``bootstrap`` as a process: its environment, its start, its end."""

from __future__ import annotations

import os
import signal
from typing import Any

from alcove.guest.runtimes.log_settings import log_variables
from alcove.guest.runtimes.provided_errors import failure
from alcove.guest.runtimes.provided_loop import Loop

_DEFAULTS = {
    "LANG": "C.UTF-8",
    "TZ": ":UTC",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "HOME": "/tmp",
    "LD_LIBRARY_PATH": "/var/task/lib:/opt/lib",
}
# Python ignores these; the bootstrap starts with nothing ignored.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)


class Bootstrap:
    """At most one runs. ``ended`` is its wait status, once it has ended."""

    def __init__(self, loop: Loop) -> None:
        self._pid: int | None = None
        self.ended: int | None = None
        self._children, child = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(child, warn_on_full_buffer=False)
        loop.watch(self._children, self._reap)

    @property
    def runs(self) -> bool:
        return self._pid is not None

    def start(self, load: dict[str, Any], api: str) -> bytes | None:
        """Start what the package brings; return the failure where it can't be started. ``api``: HOST:PORT."""
        root = load["task_root"]
        paths = [f"{root}/bootstrap", "/opt/bootstrap"]
        program = next((path for path in paths if os.path.isfile(path)), None)
        if program is None:
            message = f"Couldn't find valid bootstrap(s): [{' '.join(paths)}]"
            return failure("Runtime.InvalidEntrypoint", message)
        environment = {**_DEFAULTS, **_variables(load), **load["environment"], "AWS_LAMBDA_RUNTIME_API": api}
        try:
            os.chdir(root)
            self._pid = os.posix_spawn(
                program,
                [program],
                environment,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
                setpgroup=0,
                setsigdef=_DEFAULT_SIGNALS,
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return failure("Runtime.InvalidEntrypoint", f"fork/exec {program}: {reason}")
        return None

    def end_document(self, request_id: str = "") -> bytes:
        """Return the failure that its end is."""
        assert self.ended is not None
        message = f"Runtime exited with error: {_describe(self.ended)}"
        return failure("Runtime.ExitError", f"RequestId: {request_id} Error: {message}" if request_id else message)

    def kill(self) -> None:
        """Kill it and its children."""
        assert self._pid is not None
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def stop(self) -> None:
        """Nothing of it runs any more, and another may be started."""
        if self._pid is not None:
            self.kill()
            if self.ended is None:
                os.waitpid(self._pid, 0)
        self._pid = self.ended = None

    def _reap(self, events: int) -> None:
        try:
            os.read(self._children, 4096)
        except BlockingIOError:
            pass
        while True:
            # Orphans too: in a container we are the first process.
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self.ended = status


def _variables(load: dict[str, Any]) -> dict[str, str]:
    """Return the variables that AWS defines for every function."""
    return {
        "_HANDLER": load["handler"],
        "LAMBDA_TASK_ROOT": load["task_root"],
        "LAMBDA_RUNTIME_DIR": "/opt/alcove",
        "AWS_LAMBDA_FUNCTION_NAME": load["function_name"],
        "AWS_LAMBDA_FUNCTION_VERSION": load["version"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(load["memory_mib"]),
        "AWS_LAMBDA_LOG_GROUP_NAME": load["log_group"],
        "AWS_LAMBDA_LOG_STREAM_NAME": load["log_stream"],
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        **log_variables(load),
    }


def _describe(status: int) -> str:
    """Describe a wait status as Go does, and so AWS's logs."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"
