"""What a function's configuration may be: the ranges of AWS Lambda and Baidu CFC, whichever is
wider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from alcove.errors import InvalidRequest
from alcove.functions.model import CONCURRENCY_TAG, FRESH_VM_TAG
from alcove.images.scratch import LARGEST_MIB, SMALLEST_MIB
from alcove.sandbox.protocol import Isolation, Logging, Runtime

MEMORY_MIB = range(128, 3008 + 1)
SCRATCH_MIB = range(SMALLEST_MIB, LARGEST_MIB + 1)
LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
SYSTEM_LOG_LEVELS = ("DEBUG", "INFO", "WARN")
TIMEOUT_S = range(1, 900 + 1)
DEFAULT_MEMORY_MIB = 128
DEFAULT_TIMEOUT_S = 3
ENVIRONMENT_LIMIT = 4096
DESCRIPTION_LIMIT = 256
HANDLER_LIMIT = 128
TAG_LIMIT = 50
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
# "Defined runtime environment variables" of AWS Lambda, those marked reserved, and our own.
RESERVED_VARIABLES = frozenset(
    {
        *("_HANDLER", "_X_AMZN_TRACE_ID", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"),
        *("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_RUNTIME_API"),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        *("AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE"),
        *("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
        *("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    }
)


def check_memory(memory_mib: int) -> int:
    if memory_mib not in MEMORY_MIB:
        raise InvalidRequest(f"'MemorySize' value {memory_mib} must be {MEMORY_MIB[0]} to {MEMORY_MIB[-1]} MB.")
    return memory_mib


def check_scratch(scratch_mib: int) -> int:
    if scratch_mib not in SCRATCH_MIB:
        raise InvalidRequest(f"'EphemeralStorage.Size' {scratch_mib} must be {SCRATCH_MIB[0]} to {SCRATCH_MIB[-1]} MB.")
    return scratch_mib


def check_logging(logging: Logging) -> Logging:
    """AWS's rules for LoggingConfig: levels are for JSON alone, and INFO where they are not given."""
    if logging.format not in ("Text", "JSON"):
        raise InvalidRequest("'LoggingConfig.LogFormat' must be Text or JSON.")
    if logging.format == "Text":
        if logging.level or logging.system_level:
            raise InvalidRequest("Log levels need the log format JSON.", hint='set "LogFormat": "JSON"')
        return logging
    if (logging.level or "INFO") not in LOG_LEVELS:
        raise InvalidRequest(f"'ApplicationLogLevel' must be one of {', '.join(LOG_LEVELS)}.")
    if (logging.system_level or "INFO") not in SYSTEM_LOG_LEVELS:
        raise InvalidRequest(f"'SystemLogLevel' must be one of {', '.join(SYSTEM_LOG_LEVELS)}.")
    return Logging("JSON", logging.level or "INFO", logging.system_level or "INFO")


def check_timeout(timeout_s: int) -> int:
    if timeout_s not in TIMEOUT_S:
        raise InvalidRequest(f"'Timeout' value {timeout_s} must be {TIMEOUT_S[0]} to {TIMEOUT_S[-1]} seconds.")
    return timeout_s


def check_handler(handler: str, runtime: Runtime) -> str:
    """``module.function`` for the languages; ``provided`` reads what it likes, or nothing."""
    if len(handler) > HANDLER_LIMIT or re.search(r"\s", handler) or not handler.isprintable():
        raise InvalidRequest(f"'Handler' must have at most {HANDLER_LIMIT} characters, no spaces.")
    if not handler and runtime is not Runtime.PROVIDED:
        raise InvalidRequest("'Handler' is required.", hint="give module.function")
    return handler


def check_description(description: str) -> str:
    if len(description) > DESCRIPTION_LIMIT:
        raise InvalidRequest(f"'Description' must have at most {DESCRIPTION_LIMIT} characters.")
    return description


def check_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    reserved = sorted(RESERVED_VARIABLES & environment.keys())
    if reserved:
        raise InvalidRequest(
            "Lambda was unable to configure your environment variables because the environment "
            f"variables you have provided contains reserved keys: {', '.join(reserved)}"
        )
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidRequest(f"Environment variable name {name[:80]!r} is not valid.")
        if "\0" in value:
            raise InvalidRequest(f"Environment variable {name} holds a NUL character.")
    if len(json.dumps(dict(environment), ensure_ascii=False).encode()) > ENVIRONMENT_LIMIT:
        raise InvalidRequest(f"Environment variables exceed the limit of {ENVIRONMENT_LIMIT} bytes together.")
    return dict(environment)


def check_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """AWS's rules for tags: 50 of them, keys to 128 characters, values to 256."""
    if len(tags) > TAG_LIMIT:
        raise InvalidRequest(f"A function has at most {TAG_LIMIT} tags.")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.startswith("aws:"):
            raise InvalidRequest(f"Tag {key[:80]!r} is not valid.")
    if tags.get(FRESH_VM_TAG, "true") not in ("true", "false"):
        raise InvalidRequest(f"Tag {FRESH_VM_TAG!r} must be 'true' or 'false'.")
    if not re.fullmatch(r"[1-9][0-9]?|100", tags.get(CONCURRENCY_TAG, "1")):
        raise InvalidRequest(f"Tag {CONCURRENCY_TAG!r} must be a number, 1 to 100.")
    return dict(tags)


def check_wish(name: str, allowed: frozenset[Isolation]) -> str:
    """The operator's choice for one function; ``rules`` takes it back."""
    return "" if name == "rules" else check_isolation(name, allowed).value


def check_isolation(name: str, allowed: frozenset[Isolation]) -> Isolation:
    """Only what the operator allows; never another tier in place of the one asked for."""
    try:
        isolation = Isolation(name)
    except ValueError:
        raise InvalidRequest(f"Isolation {name[:40]!r} is unknown: {', '.join(Isolation)} exist.") from None
    if isolation not in allowed:
        raise InvalidRequest(
            f"Isolation {isolation.value!r} is not allowed here: {', '.join(sorted(allowed))}.",
            hint="the operator allows tiers with `alcove serve --isolation-allowed`",
        )
    return isolation
