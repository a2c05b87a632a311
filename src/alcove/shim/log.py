"""What a shim has to say: lines into the FIFO ``log`` of its bundle, which containerd copies into its own log.

Never on stdout or stderr, and never waiting: a line that containerd can't take now is lost.
"""

from __future__ import annotations

import json
import os
import time

_MAX_LINE = 4096


class Log:
    def __init__(self, path: str) -> None:
        self._path = path

    def info(self, message: str) -> None:
        self._write("info", message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def error(self, message: str) -> None:
        self._write("error", message)

    def _write(self, level: str, message: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f'time="{now}" level={level} msg={json.dumps(message[:_MAX_LINE])}\n'
        try:
            # Opened for each line: containerd may have been restarted, and there are few.
            fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(fd, line.encode())
        except OSError:
            pass
        finally:
            os.close(fd)
