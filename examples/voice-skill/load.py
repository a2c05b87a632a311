"""20,000 skills of 20 developers' accounts, and traffic that is skewed as skills' is: most calls are for a few of them.

Registers what is not there yet, then calls. Arguments: the server's --run folder, how many functions, how many calls.
Prints one line of JSON.
"""

from __future__ import annotations

import base64
import io
import json
import random
import sys
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alcove.cli.client import FUNCTIONS, Client
from alcove.errors import Conflict

TENANTS = 20
ROLE = "arn:aws:iam::000000000000:role/none"
# Of Zipf's law: the second skill has half of the first one's calls (and so on), to the power of this.
SKEW = 1.6


class Developer(Client):
    """The client, acting for one tenant."""

    def __init__(self, run: Path, tenant: str) -> None:
        super().__init__(run)
        self._tenant = {"X-Alcove-Tenant": tenant}


def package() -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        source = (Path(__file__).parent / "function" / "app.py").read_text()
        archive.writestr(zipfile.ZipInfo("app.py", (2024, 1, 1, 0, 0, 0)), source)
    return base64.b64encode(buffer.getvalue()).decode()


def register(developer: Developer, names: list[str], code: str) -> None:
    for name in names:
        document = {
            "FunctionName": name,
            "Runtime": "python3.11",
            "Role": ROLE,
            "Handler": "app.handler",
            "MemorySize": 256,
            "Timeout": 20,
            "Code": {"ZipFile": code},
            "Environment": {"Variables": {"SKILL": name}},
        }
        try:
            developer.call("POST", FUNCTIONS, document)
        except Conflict:
            continue


def main(run: str, count: str, calls: str) -> None:
    client = Client(Path(run))
    for number in range(TENANTS):
        try:
            client.call("POST", "/alcove/v1/tenants", {"name": f"developer-{number}"})
        except Conflict:
            continue
    developers = [Developer(Path(run), f"developer-{number}") for number in range(TENANTS)]
    code, began = package(), time.monotonic()
    skills = [(number % TENANTS, f"skill-{number:05d}") for number in range(int(count))]
    with ThreadPoolExecutor(4) as threads:
        for tenant, developer in enumerate(developers):
            threads.submit(register, developer, [name for owner, name in skills if owner == tenant], code)
    registered_s = time.monotonic() - began
    chance = random.Random(20_000)
    weights = [1 / (place + 1) ** SKEW for place in range(len(skills))]
    starts: Counter[str] = Counter()
    wrong = 0
    called = chance.choices(skills, weights, k=int(calls))
    for tenant, name in called:
        intent = chance.choice(["weather", "news", "stop"])
        event = json.dumps({"request": {"intent": {"name": intent}}}).encode()
        answer = developers[tenant].request("POST", f"{FUNCTIONS}/{name}/invocations", event)
        document: dict[str, Any] = answer.json()
        wrong += not str(document.get("outputSpeech", {}).get("text", "")).endswith(name)
        starts[answer.headers["x-alcove-start"].partition(";")[0]] += 1
    listed = sum(_count(developer) for developer in developers)
    print(
        json.dumps(
            {
                "functions": listed,
                "registered_s": round(registered_s, 1),
                "calls": len(called),
                "skills_called": len(set(called)),
                "wrong": wrong,
                "starts": dict(starts),
            }
        )
    )


def _count(developer: Developer) -> int:
    found, marker = 0, ""
    while True:
        page = developer.call("GET", f"{FUNCTIONS}/?MaxItems=1000" + (f"&Marker={marker}" if marker else ""))
        found += len(page["Functions"])
        marker = page.get("NextMarker") or ""
        if not marker:
            return found


if __name__ == "__main__":
    main(*sys.argv[1:])
