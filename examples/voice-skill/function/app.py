"""A voice skill: the intent of what was said decides the answer. Each skill's name is in its environment."""

from __future__ import annotations

import os
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    intent = event.get("request", {}).get("intent", {}).get("name", "welcome")
    said = {"welcome": "Hello from", "stop": "Good-bye from"}.get(intent, f"Here is {intent} by")
    return {
        "outputSpeech": {"type": "PlainText", "text": f"{said} {os.environ['SKILL']}"},
        "shouldEndSession": intent == "stop",
    }
