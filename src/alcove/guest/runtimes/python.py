"""The Python runtime: loads a handler, calls it, answers, one request at a time unless requests are said to be shared.

Errors have the shapes that AWS's runtime gives them (awslambdaric/bootstrap.py): errorMessage, errorType, stackTrace.
What runs before the first answer runs with cold translated code after a restore, so the path from LOAD to RESULT is
kept short.
"""

from __future__ import annotations

import builtins
import importlib
import json
import marshal
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from alcove.guest.runtimes.channel import Channel, ChannelClosed
from alcove.guest.runtimes.hooks import Hooks
from alcove.guest.runtimes.log_settings import log_variables
from alcove.guest.runtimes.python_logging import Log
from alcove.guest.runtimes.streaming import AnswerWriter
from alcove.wire.frame import Frame, Kind, document

if TYPE_CHECKING:
    from alcove.guest.runtimes.threads import Threads

MAX_RESULT = 6 * 1024 * 1024
_DEFAULTS = {
    "LANG": "C.UTF-8",
    "TZ": ":UTC",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "HOME": "/tmp",
    "LD_LIBRARY_PATH": "/var/task/lib:/opt/lib",
    "LAMBDA_RUNTIME_DIR": "/opt/alcove",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
}
Handler = Callable[[Any, Any], Any]


class HandlerError(Exception):
    """The handler cannot be loaded; ``kind`` is AWS's errorType."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Identity:
    """AWS's context.identity."""

    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None


class Client:
    """AWS's context.client_context.client."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.installation_id = document.get("installation_id")
        self.app_title = document.get("app_title")
        self.app_version_name = document.get("app_version_name")
        self.app_version_code = document.get("app_version_code")
        self.app_package_name = document.get("app_package_name")


class ClientContext:
    """AWS's context.client_context: what the caller sent, decoded."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.custom = document.get("custom")
        self.env = document.get("env")
        client = document.get("client")
        self.client = Client(client) if isinstance(client, dict) else None


class Context:
    """The handler's second argument, with the names that AWS documents."""

    def __init__(self, load: dict[str, Any], call: dict[str, Any]) -> None:
        self.function_name = load["function_name"]
        self.function_version = load["version"]
        self.invoked_function_arn = call["arn"]
        self.memory_limit_in_mb = str(load["memory_mib"])
        self.aws_request_id = call["request_id"]
        self.log_group_name = load["log_group"]
        self.log_stream_name = load["log_stream"]
        self.identity = Identity()
        raw = call["client_context"]
        self.client_context = ClientContext(json.loads(raw)) if raw else None
        self._deadline_ms = call["deadline_ms"]

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int(self._deadline_ms - time.time() * 1000))

    # Baidu CFC's name for the same.
    @property
    def request_id(self) -> str:
        return str(self.aws_request_id)


class PythonRuntime:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handler: Handler | None = None
        self._load: dict[str, Any] = {}
        self._before: tuple[set[str], list[str], set[str]] | None = None
        self._hooks = Hooks()
        self._threads: Threads | None = None
        self._begin: Callable[[str], None] = lambda trace_id: None
        self._log = Log()
        _reset_environment()

    def run(self) -> NoReturn:
        self._channel.send(Kind.READY, 0, b'{"runtime": "python3.11", "protocol": 1}')
        answers: dict[Kind, Callable[[Frame], tuple[Kind, bytes]]] = {
            Kind.LOAD: self._on_load,
            Kind.HOOK: self._on_hook,
            Kind.UNLOAD: self._on_unload,
            Kind.PING: lambda frame: (Kind.PONG, frame.payload),
        }
        while True:
            try:
                frame = self._channel.receive()
            except ChannelClosed:
                os._exit(0)
            if frame.kind is Kind.INVOKE:
                self._on_invoke(frame)
                continue
            kind, payload = answers[frame.kind](frame)
            self._channel.send(kind, frame.id, payload)

    # Loading

    def _on_load(self, frame: Frame) -> tuple[Kind, bytes]:
        began = time.perf_counter()
        load = self._load = document(frame.payload)
        if load["rehearsal"]:
            self._before = (set(sys.modules), list(sys.path), set(sys.path_importer_cache))
        self._hooks.reseed()
        os.environ.update({**_variables(load), **load["environment"]})
        self._log.install(load.get("logging") or {})
        if load.get("concurrency"):
            # Before the function's own code, which takes hold of streams.
            self._expect_shared()
        root = load["task_root"]
        sys.path[:0] = [root]
        if load.get("layers"):
            _use_layers(load["layers"])
        sys.path.append("/opt/alcove/alcove/guest/tenant")
        os.chdir(root)
        try:
            self._handler = _find_handler(load["handler"], root)
        except HandlerError as error:
            return Kind.FAILURE, _failure(error.kind, str(error), [])
        except SystemExit as error:
            return Kind.FAILURE, _failure("Runtime.ExitError", f"the module exited: {error.code}", [])
        except BaseException as error:
            return Kind.FAILURE, _failure(type(error).__name__, _message(error), _stack(error))
        spent = (time.perf_counter() - began) * 1000
        return Kind.LOADED, b'{"init_ms": %.3f}' % spent

    def _on_unload(self, frame: Frame) -> tuple[Kind, bytes]:
        """Forget a rehearsal: its modules, paths, environment, and what importing has cached about its folder."""
        if self._before is not None:
            modules, path, importers = self._before
            for name in set(sys.modules) - modules:
                del sys.modules[name]
            sys.path[:] = path
            for entry in set(sys.path_importer_cache) - importers:
                del sys.path_importer_cache[entry]
        self._before = None
        self._handler = None
        self._log.remove()
        self._load = {}
        os.chdir("/")
        _reset_environment()
        return Kind.DONE, b""

    def _on_hook(self, frame: Frame) -> tuple[Kind, bytes]:
        hook = document(frame.payload)["hook"]
        try:
            if hook == "before_snapshot":
                self._hooks.before_snapshot()
            else:
                self._hooks.after_restore()
        except BaseException as error:
            return Kind.FAILURE, _failure(type(error).__name__, _message(error), _stack(error))
        return Kind.DONE, b""

    # Calls

    def _on_invoke(self, frame: Frame) -> None:
        payload = frame.payload
        split = 2 + int.from_bytes(payload[:2], "big")
        call = document(payload[2:split])
        if call.get("shared"):
            self._share(frame.id, call, payload[split:])
            return
        if call["trace_id"]:
            os.environ["_X_AMZN_TRACE_ID"] = call["trace_id"]
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        self._answer(frame.id, call, payload[split:])

    def _share(self, id: int, call: dict[str, Any], data: bytes) -> None:
        """Answer in a thread: others may be under way, and more may come."""
        threads = self._threads or self._expect_shared()
        os.environ.pop("_X_AMZN_TRACE_ID", None)
        threads.submit(lambda: self._answer_shared(id, call, data))

    def _expect_shared(self) -> Threads:
        # Most functions never need it; importing it is time.
        from alcove.guest.runtimes import request_environment, shared_output
        from alcove.guest.runtimes.threads import Threads, new_lock

        self._threads, self._channel.lock = Threads(), new_lock()
        self._begin = request_environment.begin
        request_environment.install()
        shared_output.install(self._log.whose_thread)
        return self._threads

    def _answer_shared(self, id: int, call: dict[str, Any], data: bytes) -> None:
        self._begin(call["trace_id"] or "")
        self._answer(id, call, data)

    def _answer(self, id: int, call: dict[str, Any], data: bytes) -> None:
        kind, payload = self._call(id, call, data)
        self._channel.send(kind, id, payload)
        self._mark(call["request_id"])

    def _call(self, id: int, call: dict[str, Any], data: bytes) -> tuple[Kind, bytes]:
        if self._handler is None:
            return Kind.FAILURE, _failure("Runtime.NotLoaded", "no handler is loaded", [])
        try:
            event = json.loads(data or b"null")
        except ValueError as error:
            return Kind.FAILURE, _failure("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}", [])
        writer = AnswerWriter(self._channel, id)
        self._log.begin(call["request_id"])
        try:
            result = self._handler(event, Context(self._load, call))
            if hasattr(type(result), "__next__"):
                writer.send_all(result)
                return Kind.END, b""
        except SystemExit as error:
            status = f"Runtime exited with error: exit status {error.code or 0}"
            message = f"RequestId: {call['request_id']} Error: {status}"
            return writer.failed, _failure("Runtime.ExitError", message, [])
        except BaseException as error:
            failure = _failure(type(error).__name__, _message(error), _stack(error))
            self._log.failure(json.loads(failure))
            return writer.failed, failure
        try:
            answer = json.dumps(result).encode()
        except (TypeError, ValueError, RecursionError) as error:
            return Kind.FAILURE, _failure("Runtime.MarshalError", f"Unable to marshal response: {error}", [])
        if len(answer) > MAX_RESULT:
            message = f"Response payload size ({len(answer)} bytes) exceeded maximum allowed payload size"
            message += f" ({MAX_RESULT} bytes)."
            return Kind.FAILURE, _failure("Function.ResponseSizeTooLarge", message, [])
        return Kind.RESULT, answer

    def _mark(self, request_id: str) -> None:
        """Tell the host where this request's output ends. The tenant may have closed or replaced what we write to."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        try:
            os.write(2, b"\0alcove:end:%s\0" % request_id.encode())
        except OSError:
            pass


def _reset_environment() -> None:
    """Leave what every function has, so that loading sets the rest alone."""
    os.environ.clear()
    os.environ.update(_DEFAULTS)


def _variables(load: dict[str, Any]) -> dict[str, str]:
    """Return the variables that AWS defines for every function."""
    return {
        "_HANDLER": load["handler"],
        "LAMBDA_TASK_ROOT": load["task_root"],
        "AWS_LAMBDA_FUNCTION_NAME": load["function_name"],
        "AWS_LAMBDA_FUNCTION_VERSION": load["version"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(load["memory_mib"]),
        "AWS_LAMBDA_LOG_GROUP_NAME": load["log_group"],
        "AWS_LAMBDA_LOG_STREAM_NAME": load["log_stream"],
        **log_variables(load),
    }


def _use_layers(root: str) -> None:
    """Let the function import what its layers bring, in AWS's order, and load their libraries by name."""
    folders = (f"{root}/python/lib/python3.11/site-packages", f"{root}/python")
    sys.path[1:1] = [folder for folder in folders if os.path.isdir(folder)]
    try:
        names = sorted(name for name in os.listdir(f"{root}/lib") if ".so" in name)
    except OSError:
        return
    _load_libraries([f"{root}/lib/{name}" for name in names])


def _load_libraries(paths: list[str]) -> None:
    """The loader has read LD_LIBRARY_PATH long ago; what is loaded already it finds by its name. A library may need
    another one of them, so those that fail are tried again as long as that helps.
    """
    if not paths:
        return
    import ctypes

    failed = []
    for path in paths:
        try:
            ctypes.CDLL(path)
        except OSError:
            failed.append(path)
    if len(failed) < len(paths):
        _load_libraries(failed)


def _find_handler(name: str, root: str) -> Handler:
    module_name, _, function_name = name.rpartition(".")
    if not module_name:
        raise HandlerError(
            "Runtime.MalformedHandlerName", f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        )
    dotted = module_name.replace("/", ".")
    if dotted.split(".")[0] in sys.builtin_module_names:
        raise HandlerError(
            "Runtime.BuiltInModuleConflict", f"Cannot use built-in module {module_name} as a handler module"
        )
    try:
        module = _load_compiled(dotted, root) or importlib.import_module(dotted)
    except ImportError as error:
        raise HandlerError("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from error
    except SyntaxError as error:
        raise HandlerError("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error}") from error
    handler = getattr(module, function_name, None)
    if not callable(handler):
        raise HandlerError("Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'")
    return handler  # type: ignore[no-any-return]


def _load_compiled(name: str, root: str) -> ModuleType | None:
    """Load a top-level module from the bytecode beside it, as importing would, by a tenth of the code.

    Importing lists the folder, tries what a name may mean and checks the source's age; under emulation, with nothing
    translated yet, that costs more than all else in a cold start. The package's builder compiled the module from the
    very source that is in the image, so there is nothing to check. None where it is a package, a built-in, or not
    compiled.
    """
    if "." in name or name in sys.modules:
        return None
    cached = f"{root}/__pycache__/{name}.cpython-311.pyc"
    try:
        fd = os.open(cached, os.O_RDONLY)
    except OSError:
        return None
    try:
        data = os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    # PEP 552: magic number, then flags; 1 is a hash that is not checked.
    if data[:8] != MAGIC_NUMBER + b"\1\0\0\0" or os.path.isdir(f"{root}/{name}"):
        return None
    path = f"{root}/{name}.py"
    loader = SourceFileLoader(name, path)
    spec = ModuleSpec(name, loader, origin=path)
    spec.cached = cached
    module = ModuleType(name)
    module.__dict__.update(__file__=path, __cached__=cached)
    module.__loader__, module.__spec__, module.__package__ = loader, spec, ""
    sys.modules[name] = module
    try:
        exec(marshal.loads(data[16:]), module.__dict__)  # noqa: S102, S302 - this is how importing runs a module
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules[name]


def _message(error: BaseException) -> str:
    """Return what the tenant's exception says, which is the tenant's code again."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} has no text>"


def _stack(error: BaseException) -> list[str]:
    """Return the tenant's own frames, formatted as AWS does."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__]
    return traceback.format_list(own)


def _failure(kind: str, message: str, stack: list[str]) -> bytes:
    failure = {"errorMessage": message[:65536], "errorType": kind, "stackTrace": stack[-64:]}
    return json.dumps(failure).encode()


def serve(fd: int) -> NoReturn:
    """Run on this channel for ever. The tenant's children do not inherit it."""
    os.set_inheritable(fd, False)
    # The agent gives its children the defaults; an interpreter raises BrokenPipeError and OSError.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    # Without ``site``, which costs a start its time, these two are not there.
    vars(builtins).update(exit=sys.exit, quit=sys.exit)
    random.seed()
    PythonRuntime(Channel(fd)).run()


def main() -> NoReturn:
    """Run in a container: the channel is descriptor 0, which becomes nothing for the tenant."""
    fd = os.dup(0)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    serve(fd)
