"""The messages of containerd's task service, version 2 (``containerd.task.v2.Task``), as tables of fields."""

from __future__ import annotations

from alcove.wire.protobuf import BOOL, BYTES, ENUM, STRING, UINT32, Field, Message, map_field
from alcove.wire.ttrpc import ANY, EMPTY, TIMESTAMP

SERVICE = "containerd.task.v2.Task"

# containerd.v1.types.Status
UNKNOWN, CREATED, RUNNING, STOPPED, PAUSED, PAUSING = range(6)


def _message(name: str, *fields: Field) -> Message:
    return Message(f"containerd.task.v2.{name}", *fields)


_ID = Field(1, "id", STRING)
_EXEC_ID = Field(2, "exec_id", STRING)

MOUNT = Message(
    "containerd.types.Mount",
    Field(1, "type", STRING),
    Field(2, "source", STRING),
    Field(3, "target", STRING),
    Field(4, "options", STRING, repeated=True),
)
PROCESS_INFO = Message("containerd.v1.types.ProcessInfo", Field(1, "pid", UINT32), Field(2, "info", ANY))
PROCESS_DETAILS = Message("containerd.runc.v1.ProcessDetails", Field(1, "exec_id", STRING))
# What a runtime's ``options`` in containerd's configuration become; older containerds say ``cri.runtimeoptions.v1``.
RUNTIME_OPTIONS = Message(
    "runtimeoptions.v1.Options",
    Field(1, "type_url", STRING),
    Field(2, "config_path", STRING),
    Field(3, "config_body", BYTES),
)
RUNTIME_VERSION = Message(
    "containerd.runc.types.RuntimeVersion", Field(1, "version", STRING), Field(2, "revision", STRING)
)
RUNTIME_INFO = Message(
    "containerd.types.RuntimeInfo",
    Field(1, "name", STRING),
    Field(2, "version", RUNTIME_VERSION),
    Field(3, "options", ANY),
    Field(4, "features", ANY),
    map_field(5, "annotations", STRING, STRING),
)

CREATE_REQUEST = _message(
    "CreateTaskRequest",
    _ID,
    Field(2, "bundle", STRING),
    Field(3, "rootfs", MOUNT, repeated=True),
    Field(4, "terminal", BOOL),
    Field(5, "stdin", STRING),
    Field(6, "stdout", STRING),
    Field(7, "stderr", STRING),
    Field(8, "checkpoint", STRING),
    Field(9, "parent_checkpoint", STRING),
    Field(10, "options", ANY),
)
CREATE_RESPONSE = _message("CreateTaskResponse", Field(1, "pid", UINT32))
DELETE_REQUEST = _message("DeleteRequest", _ID, _EXEC_ID)
DELETE_RESPONSE = _message(
    "DeleteResponse", Field(1, "pid", UINT32), Field(2, "exit_status", UINT32), Field(3, "exited_at", TIMESTAMP)
)
EXEC_REQUEST = _message(
    "ExecProcessRequest",
    _ID,
    _EXEC_ID,
    Field(3, "terminal", BOOL),
    Field(4, "stdin", STRING),
    Field(5, "stdout", STRING),
    Field(6, "stderr", STRING),
    Field(7, "spec", ANY),
)
RESIZE_REQUEST = _message("ResizePtyRequest", _ID, _EXEC_ID, Field(3, "width", UINT32), Field(4, "height", UINT32))
STATE_REQUEST = _message("StateRequest", _ID, _EXEC_ID)
STATE_RESPONSE = _message(
    "StateResponse",
    _ID,
    Field(2, "bundle", STRING),
    Field(3, "pid", UINT32),
    Field(4, "status", ENUM),
    Field(5, "stdin", STRING),
    Field(6, "stdout", STRING),
    Field(7, "stderr", STRING),
    Field(8, "terminal", BOOL),
    Field(9, "exit_status", UINT32),
    Field(10, "exited_at", TIMESTAMP),
    Field(11, "exec_id", STRING),
)
KILL_REQUEST = _message("KillRequest", _ID, _EXEC_ID, Field(3, "signal", UINT32), Field(4, "all", BOOL))
CLOSE_IO_REQUEST = _message("CloseIORequest", _ID, _EXEC_ID, Field(3, "stdin", BOOL))
PIDS_REQUEST = _message("PidsRequest", _ID)
PIDS_RESPONSE = _message("PidsResponse", Field(1, "processes", PROCESS_INFO, repeated=True))
CHECKPOINT_REQUEST = _message("CheckpointTaskRequest", _ID, Field(2, "path", STRING), Field(3, "options", ANY))
UPDATE_REQUEST = _message(
    "UpdateTaskRequest", _ID, Field(2, "resources", ANY), map_field(3, "annotations", STRING, STRING)
)
START_REQUEST = _message("StartRequest", _ID, _EXEC_ID)
START_RESPONSE = _message("StartResponse", Field(1, "pid", UINT32))
WAIT_REQUEST = _message("WaitRequest", _ID, _EXEC_ID)
WAIT_RESPONSE = _message("WaitResponse", Field(1, "exit_status", UINT32), Field(2, "exited_at", TIMESTAMP))
STATS_REQUEST = _message("StatsRequest", _ID)
STATS_RESPONSE = _message("StatsResponse", Field(1, "stats", ANY))
CONNECT_REQUEST = _message("ConnectRequest", _ID)
CONNECT_RESPONSE = _message(
    "ConnectResponse", Field(1, "shim_pid", UINT32), Field(2, "task_pid", UINT32), Field(3, "version", STRING)
)
SHUTDOWN_REQUEST = _message("ShutdownRequest", _ID, Field(2, "now", BOOL))
PAUSE_REQUEST = _message("PauseRequest", _ID)
RESUME_REQUEST = _message("ResumeRequest", _ID)

# Each method's request and response.
METHODS = {
    "State": (STATE_REQUEST, STATE_RESPONSE),
    "Create": (CREATE_REQUEST, CREATE_RESPONSE),
    "Start": (START_REQUEST, START_RESPONSE),
    "Delete": (DELETE_REQUEST, DELETE_RESPONSE),
    "Pids": (PIDS_REQUEST, PIDS_RESPONSE),
    "Pause": (PAUSE_REQUEST, EMPTY),
    "Resume": (RESUME_REQUEST, EMPTY),
    "Checkpoint": (CHECKPOINT_REQUEST, EMPTY),
    "Kill": (KILL_REQUEST, EMPTY),
    "Exec": (EXEC_REQUEST, EMPTY),
    "ResizePty": (RESIZE_REQUEST, EMPTY),
    "CloseIO": (CLOSE_IO_REQUEST, EMPTY),
    "Update": (UPDATE_REQUEST, EMPTY),
    "Wait": (WAIT_REQUEST, WAIT_RESPONSE),
    "Stats": (STATS_REQUEST, STATS_RESPONSE),
    "Connect": (CONNECT_REQUEST, CONNECT_RESPONSE),
    "Shutdown": (SHUTDOWN_REQUEST, EMPTY),
}
