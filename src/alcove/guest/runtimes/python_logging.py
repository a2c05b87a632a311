"""What a Python function logs, in the shapes that AWS documents: lines of text, or JSON objects of a level and above.

The agent imports this before it is saved and forks the runtime from that: ``logging`` costs a start nothing.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

_TEXT = "[%(levelname)s]\t%(asctime)s.%(msecs)dZ\t%(aws_request_id)s\t%(message)s\n"
_TIME = "%Y-%m-%dT%H:%M:%S"
# AWS's names for levels, where they are not Python's.
_LEVELS = {"TRACE": logging.DEBUG, "WARN": logging.WARNING, "FATAL": logging.CRITICAL}
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "aws_request_id"}


class Log:
    """The handler of the root logger, and what is said of a failed call."""

    def __init__(self) -> None:
        # Requests that share a sandbox have a thread each; threads of the tenant's own speak for the latest.
        self._current: ContextVar[str] = ContextVar("request_id", default="")
        self._latest = ""
        self._json = False
        self._handler = _Handler(self)

    @property
    def request_id(self) -> str:
        return self._current.get() or self._latest

    def whose_thread(self) -> str:
        """As ``request_id``; nothing in threads of the tenant's own."""
        return self._current.get()

    def begin(self, request_id: str) -> None:
        """What this thread logs from now on is that request's."""
        self._current.set(request_id)
        self._latest = request_id

    def install(self, settings: dict[str, str]) -> None:
        """Begin for a function; ``settings`` as LOAD has them."""
        self._json = settings.get("format") == "JSON"
        self._handler.setFormatter(_JsonFormatter(self) if self._json else _formatter())
        logging.root.addHandler(self._handler)
        if self._json:
            level = settings.get("level") or "INFO"
            logging.root.setLevel(_LEVELS.get(level, level))

    def remove(self) -> None:
        """Forget the function."""
        logging.root.handlers.clear()
        logging.root.setLevel(logging.WARNING)
        self.begin("")

    def failure(self, document: dict[str, Any]) -> None:
        """Write what a call failed with."""
        kind, message, stack = document["errorType"], document["errorMessage"], document["stackTrace"]
        if self._json:
            self.write(json.dumps({"timestamp": _now(), "log_level": "ERROR", **document, **self.whose()}) + "\n")
        else:
            trace = "Traceback (most recent call last):\n" + "".join(stack) if stack else ""
            self.write(f"[ERROR] {kind}: {message}\n{trace}")

    def whose(self) -> dict[str, str]:
        return {"requestId": self.request_id} if self.request_id else {}

    def write(self, text: str) -> None:
        # The tenant may have closed or replaced it.
        try:
            sys.stdout.write(text)
        except Exception:
            pass


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        record.aws_request_id = self._log.request_id
        try:
            self._log.write(self.format(record))
        except Exception:
            self.handleError(record)


def _formatter() -> logging.Formatter:
    formatter = logging.Formatter(_TEXT, _TIME)
    formatter.converter = time.gmtime
    return formatter


class _JsonFormatter(logging.Formatter):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def format(self, record: logging.LogRecord) -> str:
        message = record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage()
        line: dict[str, Any] = {
            "timestamp": _now(record.created),
            "level": record.levelname,
            "message": message,
            "logger": record.name,
            **self._log.whose(),
            **{name: value for name, value in vars(record).items() if name not in _RESERVED},
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, _ = record.exc_info
            line |= {"errorType": kind.__name__, "errorMessage": str(error)}
            line["stackTrace"] = self.formatException(record.exc_info).splitlines()
            line["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
        return json.dumps(line, default=str) + "\n"


def _now(moment: float | None = None) -> str:
    moment = time.time() if moment is None else moment
    return f"{time.strftime(_TIME, time.gmtime(moment))}.{int(moment * 1000) % 1000:03d}Z"
