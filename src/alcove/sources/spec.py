"""What a mapping is: its source, its batches, what becomes of failures. Checked here, whatever dialect it came in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from alcove.errors import InvalidRequest
from alcove.sources.address import parse_endpoint
from alcove.sources.pattern import Pattern
from alcove.sources.tls import check_ca

# Of the Lambda API, "CreateEventSourceMapping".
BATCH_SIZE = range(1, 10_001)
WINDOW_S = range(0, 301)
RETRIES = range(-1, 10_001)
CONCURRENCY = range(1, 51)
NAME_LIMIT = 1000
FILTER_LIMIT = 5


class SourceKind(StrEnum):
    """``endpoint_key`` is how the API names its servers."""

    QUEUE = "queue"
    REDIS = "redis"
    RABBITMQ = "rabbitmq"

    @property
    def endpoint_key(self) -> str:
        return {"redis": "REDIS_SERVERS", "rabbitmq": "RABBITMQ_BROKERS"}.get(self.value, "")

    @property
    def scheme(self) -> str:
        """In front of an endpoint: it is reached by TLS."""
        return {"redis": "rediss://", "rabbitmq": "amqps://"}.get(self.value, "")

    @property
    def batch_size(self) -> int:
        """The default."""
        return 10 if self is SourceKind.QUEUE else 100


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """``name`` is a queue's ARN, a stream, or RabbitMQ's queue; ``endpoint`` is HOST:PORT of an outside server, with
    ``tls``, and the authorities in ``ca`` (PEM; "" for the usual ones), where it is to be reached so.
    """

    kind: SourceKind
    name: str
    endpoint: str = ""
    username: str = ""
    password: str = ""
    virtual_host: str = "/"
    start: str = "LATEST"
    batch_size: int = 10
    window_s: int = 0
    report_failures: bool = False
    retries: int = -1
    on_failure: str = ""
    concurrency: int = 1
    filters: tuple[str, ...] = ()
    tls: bool = False
    ca: str = ""

    @property
    def in_order(self) -> bool:
        """Whether nothing of a group may be tried before what came ahead of it: a FIFO queue."""
        return self.kind is SourceKind.QUEUE and self.name.endswith(".fifo")

    @property
    def identity(self) -> str:
        """The same for mappings that read the same."""
        return (
            self.name
            if self.kind is SourceKind.QUEUE
            else f"{self.kind}://{self.endpoint}/{self.virtual_host}/{self.name}"
        )

    def check(self) -> SourceSpec:
        """Raises ``InvalidRequest``."""
        for name, value, allowed in (
            ("BatchSize", self.batch_size, BATCH_SIZE),
            ("MaximumBatchingWindowInSeconds", self.window_s, WINDOW_S),
            ("MaximumRetryAttempts", self.retries, RETRIES),
            ("MaximumConcurrency", self.concurrency, CONCURRENCY),
        ):
            if value not in allowed:
                raise InvalidRequest(f"'{name}' must be {allowed[0]} to {allowed[-1]}.")
        if not self.name or len(self.name) > NAME_LIMIT or not self.name.isprintable():
            raise InvalidRequest("A stream or queue must be named.")
        self._check_filters()
        if self.kind is SourceKind.QUEUE:
            return self._check_queue()
        parse_endpoint(self.endpoint)
        if self.ca:
            if not self.tls:
                raise InvalidRequest("A certificate is for TLS.", hint=f"name the server {self.kind.scheme}HOST:PORT")
            check_ca(self.ca)
        if self.start not in ("LATEST", "TRIM_HORIZON"):
            raise InvalidRequest("'StartingPosition' must be LATEST or TRIM_HORIZON.")
        return self

    def _check_filters(self) -> None:
        if len(self.filters) > FILTER_LIMIT:
            raise InvalidRequest(f"A mapping has at most {FILTER_LIMIT} filters.")
        for text in self.filters:
            Pattern.read(text)

    def _check_queue(self) -> SourceSpec:
        if self.in_order and (self.batch_size > 10 or self.window_s):
            raise InvalidRequest("A FIFO queue has batches of 10 at most, and no batching window.")
        if self.batch_size > 10 and self.window_s == 0:
            raise InvalidRequest("'MaximumBatchingWindowInSeconds' must be at least 1 for batches of more than 10.")
        if self.retries != -1 or self.on_failure:
            raise InvalidRequest(
                "A queue has no retry attempts and no failure destination of a mapping's.",
                hint="give the queue a RedrivePolicy",
            )
        return self

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SourceSpec:
        document = json.loads(text)
        known = {one.name for one in fields(cls)}
        given = {name: value for name, value in document.items() if name in known}
        given |= {"kind": SourceKind(document["kind"]), "filters": tuple(document.get("filters", ()))}
        return cls(**given)
