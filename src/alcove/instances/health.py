"""gRPC's health protocol (grpc.health.v1), for probes."""

from __future__ import annotations

from alcove.wire.protobuf import INT64, STRING, Field, Message

_CHECK = "/grpc.health.v1.Health/Check"
_REQUEST = Message("HealthCheckRequest", Field(1, "service", STRING))
_ANSWER = Message("HealthCheckResponse", Field(1, "status", INT64))
_SERVING = 1
# An answer is a few bytes.
_OPTIONS = [("grpc.max_receive_message_length", 4096), ("grpc.enable_http_proxy", 0)]


async def serves(address: str, port: int, service: str) -> bool:
    """Tell whether the service there says that it serves."""
    import grpc

    host = f"[{address}]" if ":" in address else address
    async with grpc.aio.insecure_channel(f"{host}:{port}", _OPTIONS) as channel:
        call = channel.unary_unary(_CHECK, request_serializer=_REQUEST.encode, response_deserializer=_ANSWER.decode)
        try:
            answer = await call({"service": service})
        except grpc.aio.AioRpcError:
            return False
        return bool(answer["status"] == _SERVING)
