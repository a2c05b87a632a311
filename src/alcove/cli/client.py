"""A small client of the server's UNIX socket: http.client over AF_UNIX, standard library only."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from alcove.cli.exits import ServerUnreachable
from alcove.errors import (
    AccessDenied,
    AlcoveError,
    CapacityError,
    Conflict,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    ThrottledError,
    TooLarge,
)

# The AWS-shaped control API.
FUNCTIONS = "/2015-03-31/functions"
# The longest that a function may run (15 minutes), its cold start, and some room.
TIMEOUT_S = 1000.0
_ERRORS: dict[int, type[AlcoveError]] = {
    400: InvalidRequest,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: ThrottledError,
    503: CapacityError,
    507: CapacityError,
}
_QUOTAS = ("CodeStorageExceededException", "TooManyFunctionsException", "LimitExceededException")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer below 400. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body) if self.body else {}
        except ValueError as error:
            raise AlcoveError("the server's answer is not JSON") from error


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s, blocksize=1 << 18)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Upload(io.BytesIO):
    """A body that tells how much of it was sent."""

    sent: Callable[[int], None]

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.sent(self.tell())
        return data


class Client:
    """Talks to the server whose ``api.sock`` is in ``run``, by a connection for each request.

    The variable ALCOVE_TENANT names the tenant that it acts for.
    """

    def __init__(self, run: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = run / "api.sock"
        self._timeout_s = timeout_s
        tenant = os.environ.get("ALCOVE_TENANT")
        self._tenant = {"X-Alcove-Tenant": tenant} if tenant else {}

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        sent: Callable[[int], None] | None = None,
        received: Callable[[bytes], None] | None = None,
    ) -> Answer:
        """Raises ``ServerUnreachable``, or the error that fits the status, with its message.

        ``received`` gets the body of an answer below 400 as it comes; ``Answer.body`` is then empty.
        """
        connection = UnixConnection(self.socket, self._timeout_s)
        upload = _Upload(body)
        upload.sent = sent or (lambda _: None)
        every = {"Content-Length": str(len(body)), **self._tenant, **(headers or {})}
        try:
            connection.request(method, path, upload if body else None, every)
            response = connection.getresponse()
            answer = Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read() if received is None or response.status >= 400 else b"",
            )
            while received is not None and (data := response.read1(1 << 16)):
                received(data)
        except TimeoutError as error:
            raise AlcoveError("the server did not answer in time", hint="see its log") from error
        except PermissionError as error:
            raise ServerUnreachable(
                f"{self.socket} is not yours to open", hint="run as the server's user (root)"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise _error(answer)
        return answer

    def call(
        self, method: str, path: str, document: Any = None, extra: Mapping[str, str] | None = None, **options: Any
    ) -> Any:
        """Send and receive JSON; ``extra`` are further headers."""
        body = b"" if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json", **(extra or {})}
        return self.request(method, path, body, headers, **options).json()

    def pages(self, path: str, key: str) -> list[Any]:
        """Return what all pages of an AWS-shaped list hold under ``key``."""
        found: list[Any] = []
        marker = ""
        while True:
            page = self.call("GET", f"{path}?{urlencode({'Marker': marker})}" if marker else path)
            found += page.get(key, [])
            marker = page.get("NextMarker") or ""
            if not marker:
                return found

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return ServerUnreachable(
                f"no server runs at {self.socket}",
                hint="start it with: alcove serve (or name its folder with --run)",
            )
        return ServerUnreachable(
            f"the connection to the server broke: {error or type(error).__name__}",
            hint="whether the request took effect is unknown; see the server's log",
        )


def _error(answer: Answer) -> AlcoveError:
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = {}
    fields = cast(
        "dict[str, Any]",
        {key.lower(): value for key, value in document.items()} if isinstance(document, dict) else {},
    )
    message = fields.get("message") or f"the server answered with status {answer.status}"
    code = answer.headers.get("x-amzn-errortype", "")
    if code in _QUOTAS:
        return QuotaExceeded(str(message), code=code, hint=str(fields.get("hint") or ""))
    # SQS says so with the status of any other refusal.
    status = 404 if str(fields.get("__type")).endswith("#QueueDoesNotExist") else answer.status
    return error_for(status, str(message), str(fields.get("hint") or ""))


def error_for(status: int, message: str, hint: str) -> AlcoveError:
    """Return the error that fits the status."""
    kind = _ERRORS.get(status, InvalidRequest if status < 500 else AlcoveError)
    return kind(message, hint=hint)
