"""Names of images, and which credentials are for which."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.instances.pull_secrets import PullSecret, auth_of, dump_secrets, load_secrets
from alcove.instances.registry import in_repository, repository_of

DIGEST = f"sha256:{'0' * 64}"
WORDS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
PATHS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
HOSTS = st.sampled_from(["", "quay.io/", "localhost/", "h:5000/", "docker.io/"])
ENDS = st.sampled_from(["", ":1", ":latest", f"@{DIGEST}", f":1@{DIGEST}"])


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("busybox:1.36", "docker.io/library/busybox"),
        ("me/tool", "docker.io/me/tool"),
        ("docker.io/busybox", "docker.io/library/busybox"),
        ("index.docker.io/me/tool:2", "docker.io/me/tool"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b"),
        (f"Quay.io/a@{DIGEST}", "quay.io/a"),
        (DIGEST, "docker.io/library/sha256"),
    ],
)
def test_a_repository_has_one_name(image: str, repository: str) -> None:
    assert repository_of(image) == repository


@given(HOSTS, PATHS, ENDS, ENDS)
def test_tag_and_digest_make_no_other_repository(host: str, path: str, one: str, other: str) -> None:
    assert repository_of(f"{host}{path}{one}") == repository_of(f"{host}{path}{other}")


@pytest.mark.parametrize(
    ("server", "image", "fits"),
    [
        ("quay.io", "quay.io/a/b:1", True),
        ("https://quay.io/", "quay.io/a/b:1", True),
        ("quay.io/a", "quay.io/a/b", True),
        ("quay.io/a", "quay.io/ab", False),
        ("quay.io", "quay.io.evil.test/a", False),
        ("https://index.docker.io/v1/", "me/tool", True),
        ("docker.io/me", "me/tool:1", True),
        ("docker.io/me", "other/tool", False),
        ("", "busybox", False),
    ],
)
def test_credentials_are_for_what_is_below_their_server(server: str, image: str, fits: bool) -> None:
    assert in_repository(image, server) is fits


def test_the_nearest_credentials_are_sent() -> None:
    secrets = [PullSecret("quay.io", "all", "1"), PullSecret("quay.io/team", "team", "2")]
    assert auth_of(secrets, "quay.io/team/x") == {"username": "team", "password": "2"}
    assert auth_of(secrets, "quay.io/other") == {"username": "all", "password": "1"}
    assert auth_of(secrets, "busybox") is None
    assert load_secrets(dump_secrets(secrets)) == secrets
    assert (dump_secrets([]), load_secrets("")) == ("", [])
    assert "password" not in repr(PullSecret("s", "u", "password"))
