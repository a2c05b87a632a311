"""Exit codes, and how an error reaches the user.

0  done
1  the function failed (or: ``doctor`` found something missing)
2  the command or a value in it is wrong
3  what was named does not exist
4  the server can't be reached
5  refused: it exists already, a limit was met, no room now, not allowed
6  the server or this machine failed
"""

from __future__ import annotations

import sys

from alcove.errors import (
    AccessDenied,
    AlcoveError,
    Conflict,
    HostError,
    NotFound,
    QuotaExceeded,
    RequestError,
    RetryLater,
    TooLarge,
)

OK = 0
FUNCTION_FAILED = 1
USAGE = 2
NOT_FOUND = 3
UNREACHABLE = 4
REFUSED = 5
FAILED = 6


class ServerUnreachable(HostError):
    """Nobody answers on the server's socket."""


# The first row that fits counts.
_CODES: tuple[tuple[type[AlcoveError], int], ...] = (
    (ServerUnreachable, UNREACHABLE),
    (NotFound, NOT_FOUND),
    (Conflict, REFUSED),
    (TooLarge, REFUSED),
    (QuotaExceeded, REFUSED),
    (AccessDenied, REFUSED),
    (RetryLater, REFUSED),
    (RequestError, USAGE),
    (AlcoveError, FAILED),
)


def exit_code(error: AlcoveError) -> int:
    return next(code for kind, code in _CODES if isinstance(error, kind))


def report(error: AlcoveError) -> int:
    """Print the error and its hint on stderr; return the exit code."""
    print(f"error: {error}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    return exit_code(error)
