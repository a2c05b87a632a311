from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.api.dialect import AWS
from alcove.api.router import Route, Router
from alcove.errors import NotFound
from alcove.gateway.message import Response


async def act(call: Any) -> Response:
    return Response()


def route(method: str, path: str) -> Route:
    return Route(method, path, act, AWS)


ROUTES = (
    route("GET", "/f"),
    route("GET", "/f/{name}"),
    route("GET", "/f/{name}/code"),
    route("GET", "/f/special"),
    route("PUT", "/f/{name}"),
    route("GET", "/files/{bucket}/{key*}"),
)
ROUTER = Router(ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "expected", "names"),
    [
        ("GET", "/f", 0, {}),
        ("GET", "/f/", 0, {}),
        ("GET", "/f/a", 1, {"name": "a"}),
        ("GET", "/f/a/", 1, {"name": "a"}),
        ("GET", "/f/a/code", 2, {"name": "a"}),
        ("GET", "/f/special", 3, {}),
        ("GET", "/f/special/code", 2, {"name": "special"}),
        ("PUT", "/f/a%2Fb%3A1", 4, {"name": "a/b:1"}),
        ("GET", "/files/b/x/y//z", 5, {"bucket": "b", "key": "x/y//z"}),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, expected: int, names: dict[str, str]) -> None:
    assert ROUTER.find(method, path) == (ROUTES[expected], names)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", ""), ("GET", "/f//code"), ("POST", "/f"), ("GET", "/f/a/b"), ("GET", "*")],
)
def test_other_paths_find_nothing(method: str, path: str) -> None:
    assert ROUTER.match(method, path) is None
    with pytest.raises(NotFound, match="There is no"):
        ROUTER.find(method, path)


@given(name=st.text(min_size=1))
def test_every_name_comes_back(name: str) -> None:
    assert ROUTER.find("GET", f"/f/{quote(name, safe='')}/code") == (ROUTES[2], {"name": name})


def test_two_routes_for_one_path_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="two routes"):
        Router((route("GET", "/a/{x}"), route("GET", "/a/{y}")))
