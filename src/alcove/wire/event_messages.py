"""The events that a shim tells containerd (``containerd.events.Task*``), and the call that carries them."""

from __future__ import annotations

from alcove.wire.protobuf import BOOL, STRING, UINT32, Field, Message
from alcove.wire.task_messages import MOUNT
from alcove.wire.ttrpc import ANY, TIMESTAMP

SERVICE = "containerd.services.events.ttrpc.v1.Events"
FORWARD = "Forward"

ENVELOPE = Message(
    "containerd.services.events.ttrpc.v1.Envelope",
    Field(1, "timestamp", TIMESTAMP),
    Field(2, "namespace", STRING),
    Field(3, "topic", STRING),
    Field(4, "event", ANY),
)
FORWARD_REQUEST = Message("containerd.services.events.ttrpc.v1.ForwardRequest", Field(1, "envelope", ENVELOPE))


def _event(name: str, *fields: Field) -> Message:
    return Message(f"containerd.events.{name}", Field(1, "container_id", STRING), *fields)


TASK_IO = Message(
    "containerd.events.TaskIO",
    Field(1, "stdin", STRING),
    Field(2, "stdout", STRING),
    Field(3, "stderr", STRING),
    Field(4, "terminal", BOOL),
)
CREATE = _event(
    "TaskCreate",
    Field(2, "bundle", STRING),
    Field(3, "rootfs", MOUNT, repeated=True),
    Field(4, "io", TASK_IO),
    Field(5, "checkpoint", STRING),
    Field(6, "pid", UINT32),
)
START = _event("TaskStart", Field(2, "pid", UINT32))
DELETE = _event(
    "TaskDelete",
    Field(2, "pid", UINT32),
    Field(3, "exit_status", UINT32),
    Field(4, "exited_at", TIMESTAMP),
    Field(5, "id", STRING),
)
EXIT = _event(
    "TaskExit",
    Field(2, "id", STRING),
    Field(3, "pid", UINT32),
    Field(4, "exit_status", UINT32),
    Field(5, "exited_at", TIMESTAMP),
)
OOM = _event("TaskOOM")
EXEC_ADDED = _event("TaskExecAdded", Field(2, "exec_id", STRING))
EXEC_STARTED = _event("TaskExecStarted", Field(2, "exec_id", STRING), Field(3, "pid", UINT32))
PAUSED = _event("TaskPaused")
RESUMED = _event("TaskResumed")

TOPICS = {
    CREATE.name: "/tasks/create",
    START.name: "/tasks/start",
    DELETE.name: "/tasks/delete",
    EXIT.name: "/tasks/exit",
    OOM.name: "/tasks/oom",
    EXEC_ADDED.name: "/tasks/exec-added",
    EXEC_STARTED.name: "/tasks/exec-started",
    PAUSED.name: "/tasks/paused",
    RESUMED.name: "/tasks/resumed",
}
