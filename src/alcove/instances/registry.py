"""Names of images: the registry and the repository that they lead to."""

from __future__ import annotations

DOCKER_HUB = "docker.io"
_HUB_NAMES = ("index.docker.io", "registry-1.docker.io")


def registry_of(image: str) -> str:
    """Return the host of an image's registry: the part before the first slash, where it looks like one."""
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return _host(first) if is_host else DOCKER_HUB


def repository_of(image: str) -> str:
    """Return the whole name of an image's repository, without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, path = _host(first), rest
    else:
        host, path = DOCKER_HUB, name
    return f"{host}/library/{path}" if host == DOCKER_HUB and "/" not in path else f"{host}/{path}"


def in_repository(image: str, server: str) -> bool:
    """Tell whether the image is below what names a registry, or a part of one, as a URL or without its scheme."""
    asked = server.partition("://")[2] or server
    first, _, rest = asked.strip("/").partition("/")
    # Docker's own name of its hub ends so.
    below = "" if rest in ("v1", "v2") else rest
    whole = f"{_host(first)}/{below}".rstrip("/")
    return f"{repository_of(image)}/".startswith(f"{whole}/")


def _host(name: str) -> str:
    return DOCKER_HUB if name.lower() in _HUB_NAMES else name.lower()
