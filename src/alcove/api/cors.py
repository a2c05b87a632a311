"""CORS for function URLs: what browsers ask before they call, and what they must be told (the Fetch standard)."""

from __future__ import annotations

from alcove.gateway.message import Request, Response
from alcove.triggers.endpoint import TOKEN, Cors


def is_preflight(request: Request) -> bool:
    headers = request.headers
    return request.method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight(cors: Cors, request: Request) -> Response:
    """Answer without calling the function. An origin or method that is not allowed is told nothing."""
    headers = _allowed(cors, request)
    if not headers:
        return Response(200)
    wanted = request.headers["access-control-request-method"]
    if "*" in cors.methods and TOKEN.fullmatch(wanted):
        headers["Access-Control-Allow-Methods"] = wanted
    elif cors.methods:
        headers["Access-Control-Allow-Methods"] = ",".join(cors.methods)
    asked = [name.strip() for name in request.headers.get("access-control-request-headers", "").split(",")]
    every = "*" in cors.headers
    allowed = [name for name in asked if TOKEN.fullmatch(name)] if every else list(cors.headers)
    if allowed:
        headers["Access-Control-Allow-Headers"] = ",".join(allowed)
    if cors.max_age_s:
        headers["Access-Control-Max-Age"] = str(cors.max_age_s)
    return Response(200, headers)


def apply(cors: Cors, request: Request, response: Response) -> None:
    """Put the rules' headers in the place of those that the function has set."""
    for name in list(response.headers):
        if name.lower().startswith("access-control-"):
            del response.headers[name]
        elif name.lower() == "vary":
            response.headers["Vary"] = f"{response.headers.pop(name)}, Origin"
    headers = _allowed(cors, request)
    if headers and cors.expose:
        headers["Access-Control-Expose-Headers"] = ",".join(cors.expose)
    for name, value in headers.items():
        if name != "Vary" or "Vary" not in response.headers:
            response.headers[name] = value


def _allowed(cors: Cors, request: Request) -> dict[str, str]:
    """Return the headers that allow the request's origin, none where it is not allowed."""
    origin = request.headers.get("origin", "")
    if not origin or not (origin in cors.origins or "*" in cors.origins):
        return {}
    if not cors.credentials:
        allowed = "*" if "*" in cors.origins else origin
        return {"Access-Control-Allow-Origin": allowed, "Vary": "Origin"}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}
