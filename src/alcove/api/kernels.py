"""Kernels for functions that need one of their own, in Alcove's own API: the operator registers, tenants choose."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import EMPTY, TEXT, Detail, list_of, object_of, record
from alcove.errors import AccessDenied, Conflict, InvalidRequest
from alcove.gateway.message import Response
from alcove.images.kernels import Kernel
from alcove.store.functions import kernel_in_use


def _describe(kernel: Kernel) -> dict[str, Any]:
    return {"name": kernel.name, "digest": kernel.digest, "release": kernel.release, "append": kernel.append}


def _require_operator(call: Call) -> None:
    if not call.operator:
        raise AccessDenied("only the operator registers kernels", code="missing", hint="use the UNIX socket")


async def list_kernels(call: Call) -> Response:
    """Kernels that a function may name in its tag alcove:kernel."""
    found = await asyncio.to_thread(call.faces.services.kernels.all)
    return answer({"kernels": [_describe(kernel) for kernel in found]}, 200, call.request_id)


async def put_kernel(call: Call, name: str) -> Response:
    """Register a kernel from files of this machine."""
    _require_operator(call)
    document = read_object(call.request)
    vmlinuz, modules = field(document, "vmlinuz", str), field(document, "modules", str)
    if not vmlinuz or not vmlinuz.startswith("/") or (modules and not modules.startswith("/")):
        raise InvalidRequest("'vmlinuz' and 'modules' must be whole paths.")
    made = await asyncio.to_thread(
        call.faces.services.kernels.add,
        name,
        Path(vmlinuz),
        Path(modules) if modules else None,
        field(document, "append", str) or "",
    )
    return answer(_describe(made), 201, call.request_id)


async def delete_kernel(call: Call, name: str) -> Response:
    """Remove a kernel that no version uses."""
    _require_operator(call)
    kernels = call.faces.services.kernels

    def remove(connection: sqlite3.Connection) -> None:
        # Where versions are written, so that none takes it up meanwhile.
        if kernel_in_use(connection, kernels.named(name).digest):
            raise Conflict(f"The kernel {name} is in use.", hint="delete the versions that run on it first")
        kernels.remove(name)

    await call.faces.services.database.write(remove)
    return Response(204, {"x-amzn-RequestId": call.request_id})


_KERNEL = record(name=TEXT, digest=TEXT, release=TEXT, append=TEXT)
_ADD = Detail(object_of("vmlinuz", vmlinuz=TEXT, modules=TEXT, append=TEXT), status=201, answer=_KERNEL)

ROUTES = (
    Route("GET", "/alcove/v1/kernels", list_kernels, AWS, detail=Detail(answer=record(kernels=list_of(_KERNEL)))),
    Route("PUT", "/alcove/v1/kernels/{name}", put_kernel, AWS, detail=_ADD),
    Route("DELETE", "/alcove/v1/kernels/{name}", delete_kernel, AWS, detail=EMPTY),
)
