"""``-info``: what newer containerds ask a runtime about itself."""

from __future__ import annotations

from alcove import __version__
from alcove.wire.task_messages import RUNTIME_INFO


def info(name: str) -> bytes:
    return RUNTIME_INFO.encode({"name": name, "version": {"version": __version__}})
