"""Credentials of registries that a tenant sends with its instances and caches. They are told to nobody again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from alcove.instances.registry import in_repository


class PullSecret(msgspec.Struct, frozen=True):
    """``server`` is a registry, or a part of one (``docker.io/some``)."""

    server: str
    user: str
    password: str = ""

    def __repr__(self) -> str:
        return f"PullSecret({self.server!r})"


def dump_secrets(secrets: Sequence[PullSecret]) -> str:
    return msgspec.json.encode(secrets).decode() if secrets else ""


def load_secrets(text: str) -> list[PullSecret]:
    return msgspec.json.decode(text, type=list[PullSecret]) if text else []


def auth_of(secrets: Sequence[PullSecret], image: str) -> dict[str, Any] | None:
    """Return CRI's AuthConfig for the image: of the secret that names the most of it."""
    fitting = [one for one in secrets if in_repository(image, one.server)]
    best = max(fitting, key=lambda one: len(one.server), default=None)
    if best is None:
        return None
    return {"username": best.user, "password": best.password}
