"""Every error that Alcove raises on purpose.

AlcoveError
├── RetryLater            the same request may succeed later
│   ├── CapacityError     no memory, disk or slot for it now
│   └── ThrottledError    a limit on concurrency was reached
├── RequestError          the caller must change the request
│   ├── InvalidRequest    a value is malformed or out of range
│   ├── NotFound          the thing named does not exist (or is not the caller's)
│   ├── Conflict          it exists already, or is in use
│   ├── TooLarge          a body, package or result over its limit
│   ├── QuotaExceeded     the tenant has all of something that it may have
│   └── AccessDenied      the signature, key or date is not accepted
├── HostError             this machine lacks something; the hint says what mends it
└── SandboxError          a sandbox failed
    ├── SandboxGone       it died or was closed; the outcome of a call in flight is unknown
    │   └── SandboxLost   it died before the tenant's code had begun: start another
    └── ProtocolError     the guest broke the protocol; the sandbox is destroyed

Each carries ``hint``: one sentence that tells the user what to do next.
"""

from __future__ import annotations


class AlcoveError(Exception):
    """Base of all errors raised on purpose; ``hint`` says what the user can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class RetryLater(AlcoveError):
    pass


class CapacityError(RetryLater):
    pass


class ThrottledError(RetryLater):
    """``reason`` is one of AWS's ThrottleReason; ``retry_after_s`` is what the client is told to wait, in seconds."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "ConcurrentInvocationLimitExceeded",
        retry_after_s: int = 1,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.retry_after_s = retry_after_s


class RequestError(AlcoveError):
    pass


class InvalidRequest(RequestError):
    pass


class NotFound(RequestError):
    pass


class Conflict(RequestError):
    pass


class TooLarge(RequestError):
    pass


class QuotaExceeded(RequestError):
    """``code`` is the quota's name, by which the dialects tell apart cases."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class AccessDenied(RequestError):
    """``code`` tells the dialects apart cases: ``signature``, ``expired``, ``unknown_key``, ``missing``, ``malformed``,
    ``operator``.
    """

    def __init__(self, message: str, *, code: str = "signature", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class HostError(AlcoveError):
    pass


class SandboxError(AlcoveError):
    pass


class SandboxGone(SandboxError):
    """``reason`` is one of ``exited``, ``signal``, ``out_of_memory``, ``timeout``, ``killed``."""

    def __init__(self, message: str, *, reason: str = "exited", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class SandboxLost(SandboxGone):
    """See the tree above."""


class ProtocolError(SandboxError):
    pass
