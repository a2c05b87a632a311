"""``alcove bench gateway``: what a warm call costs over its handler, through a whole server.

A server of its own, a client on a kept-open TCP connection, each request signed (SigV4, ahead of its time). The handler
says how long it ran inside its VM; all the rest, down to the client's own HTTP, is the price.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from alcove.bench.figures import Figures
from alcove.bench.startup import zip_of
from alcove.cli.client import FUNCTIONS, Client
from alcove.cli.exits import ServerUnreachable
from alcove.errors import HostError, NotFound
from alcove.wire.sigv4 import ALGORITHM, signing_key

NAME = "bench-gateway"
SOURCE = """
import time

def handler(event, context):
    began = time.perf_counter()
    answer = {"hello": event.get("name", "world")}
    answer["ms"] = (time.perf_counter() - began) * 1000
    return answer
"""
EVENT = b'{"name":"bench"}'
START_TIMEOUT_S = 600.0
WARM_UP = 20


@contextmanager
def serving(state: Path, progress: Callable[[str], None], *options: str) -> Iterator[Client]:
    """Run a server in ``state`` for the block. Raises ``HostError`` where it does not start."""
    run = state / "run"
    argv = [str(Path(sys.executable).with_name("alcove")), "serve", "--pool", "0"]
    argv += ["--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"]
    argv += ["--state", str(state), "--run", str(run), *options]
    state.mkdir(parents=True, exist_ok=True)
    log_path = state / "server.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        progress("starting a server")
        client = Client(run)
        give_up = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                client.call("GET", "/alcove/v1/health")
                break
            except ServerUnreachable:
                if server.poll() is not None or time.monotonic() > give_up:
                    raise HostError("the server did not start", hint=f"see {log_path}") from None
                time.sleep(0.1)
        yield client
    finally:
        server.terminate()
        server.wait()


def deploy(client: Client, name: str = NAME, source: str = SOURCE, **options: object) -> None:
    """Create the function afresh; ``options`` as CreateFunction has them."""
    try:
        client.call("DELETE", f"{FUNCTIONS}/{name}")
    except NotFound:
        pass
    code = base64.b64encode(zip_of({"app.py": source})).decode()
    document = {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Role": "arn:aws:iam::000000000000:role/bench",
        "MemorySize": 1769,
        "Code": {"ZipFile": code},
        **options,
    }
    client.call("POST", FUNCTIONS, document)


def sign(environment: dict[str, str], host: str, path: str, body: bytes) -> dict[str, str]:
    """Return the headers of a signed POST (AWS Signature Version 4, signed payload)."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": date}
    names = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join(["POST", path, "", *lines, "", names, digest])
    scope = f"{date[:8]}/{environment['AWS_REGION']}/lambda/aws4_request"
    to_sign = "\n".join([ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = signing_key(environment["AWS_SECRET_ACCESS_KEY"], date[:8], environment["AWS_REGION"], "lambda")
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    credential = f"{environment['AWS_ACCESS_KEY_ID']}/{scope}"
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": authorization, "content-type": "application/json"}


def measure(state: Path, *, calls: int, progress: Callable[[str], None]) -> Figures:
    """Call a loaded function ``calls`` times, one after the other."""
    figures = Figures()
    with serving(state, progress) as client:
        deploy(client)
        environment = client.call("GET", "/alcove/v1/env")
        host = urlsplit(environment["AWS_ENDPOINT_URL_LAMBDA"]).netloc
        path = f"{FUNCTIONS}/{NAME}/invocations"
        connection = http.client.HTTPConnection(host, timeout=60)
        try:
            for number in range(WARM_UP + calls):
                progress(f"call {number}/{WARM_UP + calls}")
                headers = sign(environment, host, path, EVENT)
                began = time.perf_counter()
                connection.request("POST", path, EVENT, headers)
                response = connection.getresponse()
                body = response.read()
                spent = (time.perf_counter() - began) * 1000
                if response.status != 200:
                    raise HostError(f"the call failed: {response.status} {body[:200]!r}")
                if number >= WARM_UP:
                    within = float(json.loads(body)["ms"])
                    figures.add("vm", "warm, through the gateway", "hello", spent)
                    figures.add("vm", "handler, inside its VM", "hello", within)
                    figures.add("vm", "difference", "hello", spent - within)
        finally:
            connection.close()
        client.call("DELETE", f"{FUNCTIONS}/{NAME}")
    return figures
