"""The rules file: TOML, read strictly. What is wrong is said with its line, and nothing is guessed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from alcove.errors import InvalidRequest
from alcove.policy.rules import Rules, first_match
from alcove.sandbox.protocol import Runtime

SIZE_LIMIT = 64 << 10
PATTERN_LIMIT = 200
_HINT = "see: alcove policy check --help"
_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")


def load_rules(path: Path | None) -> Rules:
    """Return the rules of the file, or those built in. Raises ``InvalidRequest`` naming file and line."""
    if path is None:
        return Rules()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror or error}", hint="check --isolation-rules") from error
    return parse_rules(data, str(path))


def parse_rules(data: bytes, source: str = "rules") -> Rules:
    """Return the rules. Raises ``InvalidRequest`` that says ``source:LINE: what``."""
    if len(data) > SIZE_LIMIT:
        raise InvalidRequest(f"{source}: a rules file has at most {SIZE_LIMIT} bytes", hint=_HINT)
    try:
        text = data.decode()
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{source}:{_syntax_line(data, str(error))}: not TOML: {error}", hint=_HINT) from error
    try:
        rules = msgspec.convert(document, Rules)
    except msgspec.ValidationError as error:
        raise _refusal(source, text, str(error)) from None
    _check_patterns(rules, text, source)
    return rules


def line_of(text: str, path: list[str]) -> int:
    """Return the line (from 1) on which the key at ``path`` stands, or the deepest part of the path that is found."""
    section: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+([^\]]*)\]", line)
        if header:
            section = _keys(header[1])
            here = section
        else:
            key = re.match(r"""\s*([\w"'.-]+(?:\s*\.\s*[\w"'-]+)*)\s*=""", line)
            here = [*section, *_keys(key[1])] if key else []
        if len(here) > depth and here == path[: len(here)]:
            best, depth = number, len(here)
    return best


def _syntax_line(data: bytes, message: str) -> int:
    found = re.search(r"at line (\d+)", message)
    return int(found[1]) if found else data.count(b"\n") + 1 if "end of document" in message else 1


def _keys(text: str) -> list[str]:
    return [part.strip().strip("\"'") for part in text.split(".")]


def _refusal(source: str, text: str, message: str) -> InvalidRequest:
    place, unknown = _PLACE.search(message), _UNKNOWN.search(message)
    path = [re.sub(r"\[.*\]$", "", part) for part in place["path"].split(".")] if place and place["path"] else []
    if unknown:
        path.append(unknown["key"])
    shown = ".".join(path) or "the file"
    what = f"there is no {shown}" if unknown else f"{shown}: {_PLACE.sub('', message)}"
    return InvalidRequest(f"{source}:{line_of(text, path)}: {what}", hint=_HINT)


def _is_pattern(text: str) -> bool:
    return 1 <= len(text) <= PATTERN_LIMIT and text.isascii() and text.isprintable()


def _check_patterns(rules: Rules, text: str, source: str) -> None:
    """Pairs have an ``=``, safe languages exist, and no list is without end."""

    def refuse(path: list[str], what: str) -> InvalidRequest:
        return InvalidRequest(f"{source}:{line_of(text, path)}: {'.'.join(path)}: {what}", hint=_HINT)

    for one in rules.checks.scanners if rules.checks is not None else ():
        paths = [*one.command[:1], *one.needs]
        if not one.name.isidentifier() or not one.command or not all(path.startswith("/") for path in paths):
            raise refuse(["checks", "scanners"], "a name, a command and folders by their whole paths are wanted")
    for name in ("development", "languages", "tenants"):
        section = getattr(rules, name)
        for key, value in msgspec.structs.asdict(section).items() if section is not None else ():
            path = [name, key]
            if isinstance(value, tuple):
                # They are told of in reasons, which are headers too.
                if len(value) > PATTERN_LIMIT or not all(map(_is_pattern, value)):
                    raise refuse(path, f"at most {PATTERN_LIMIT} patterns of 1 to {PATTERN_LIMIT} ASCII characters")
                bad = [one for one in value if key in ("tags", "environment") and not one.partition("=")[1]]
                if bad:
                    raise refuse(path, f"{bad[0]!r} is not NAME=VALUE")
                bad = [one for one in value if key == "safe" and not first_match([one], Runtime)]
                if bad:
                    raise refuse(path, f"{bad[0]!r} matches no runtime ({', '.join(Runtime)})")
