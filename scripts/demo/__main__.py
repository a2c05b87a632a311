"""The main job, start to end: three functions, each called cold, from the pool and warm.

Run it by ``make demo``. State stays in build/demo, so that a second run need not build the guest
image and templates again; nothing is left running.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import report
import sdk
from calls import FUNCTIONS, Caller
from leftovers import leftovers
from server import DemoError, Server

from alcove.errors import AlcoveError

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "demo"
EXAMPLES = ROOT / "examples" / "functions"
PACKAGES = ROOT / "build" / "examples"


def main() -> int:
    began = time.monotonic()
    # As an exception, so that the server is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    HOME.mkdir(parents=True, exist_ok=True)
    server = Server(HOME)
    failure: Exception | None = None
    try:
        tell(server)
    except (DemoError, AlcoveError) as error:
        failure = error
    finally:
        server.stop(quietly=True)
    found = leftovers(server.state, server.run)
    if found:
        print("error: the server left behind:", *found, sep="\n  ", file=sys.stderr)
    if failure is not None:
        print(f"--- the end of the server's log, {server.log_path}", file=sys.stderr)
        print(server.log_tail(), file=sys.stderr)
        print(f"error: {failure}", file=sys.stderr)
        print(f"hint: {getattr(failure, 'hint', '') or 'run: alcove doctor'}", file=sys.stderr)
    if found or failure:
        return 1
    report.step("the server has stopped; no process, mount, network or cgroup of it is left")
    print(f"\ndemo: ok ({time.monotonic() - began:.0f} s)")
    return 0


def tell(server: Server) -> None:
    report.title("Set-up")
    server.command("image", "build", "--state", str(server.state), show=True)
    caller = Caller(server, EXAMPLES)

    report.title("Cold: no machine waits")
    server.start(pool=0)
    for function in FUNCTIONS:
        caller.deploy(function, PACKAGES)
    for function in FUNCTIONS:
        caller.cold(function)
    server.stop()

    report.title("From the warm pool, then warm")
    server.start(pool=1)
    for function in FUNCTIONS:
        caller.pooled(function)
        caller.warm(function)

    report.title("Stock clients")
    environment = server.environment()
    report.step(f"boto3 to {environment['AWS_ENDPOINT_URL_LAMBDA']}")
    first, second = FUNCTIONS[0], FUNCTIONS[1]
    caller.note(first, "boto3", sdk.by_boto3(environment, first.name, caller.event(first)))
    report.step(f"bce-python-sdk to {environment['BCE_ENDPOINT']}")
    caller.note(second, "bce-python-sdk", sdk.by_bce(environment, second.name, caller.event(second)))

    report.calls(caller.made)
    report.startup_times(caller.made)
    server.stop()


if __name__ == "__main__":
    sys.exit(main())
