"""Reads the JSON bodies of requests: parsed once, here, and strictly; a misspelt field is never ignored."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tasak.core.strict_json import Flawed, NotJson, decoded, has_lone_surrogate, refuse_flaws
from tasak.errors import BadRequest
from tasak.paths import home
from tasak.request import Request
from tasak.wire import LONGEST_TIMEOUT

Field = Callable[[str, Any], Any]

# Callers come again and again from the same few folders, and making a path of text takes longer than finding it.
path_of = functools.lru_cache(maxsize=256)(Path)


def call_request(app: str, content: bytes, *, wants_json: bool = False) -> Request:
    """The body of `POST /tools/call/{app}`.

    Raises:
        BadRequest: it is not JSON, or a field is unknown, missing or of another type.
    """
    fields = read(content, CALL_FIELDS)
    if "tool" not in fields:
        raise BadRequest("the field 'tool' is missing")
    if ("arguments" in fields) == ("argv" in fields):
        raise BadRequest("one of the fields 'arguments' and 'argv' is needed, and not both")
    return Request(app=app, wants_json=wants_json, is_terminal=fields.pop("tty", False), **on_behalf(fields))


def list_request(app: str, content: bytes) -> Request:
    """The body of `POST /tools/list/{app}`; an empty one is an empty object. Raises `BadRequest` likewise."""
    return Request(app=app, **on_behalf(read(content or b"{}", LIST_FIELDS)))


def on_behalf(fields: dict[str, Any]) -> dict[str, Any]:
    """The same, with the daemon's own folder and environment where the caller gives none."""
    return {"cwd": fields.pop("cwd", None) or home(), "env": os.environ, **fields}


def read(content: bytes, known: Mapping[str, Field]) -> dict[str, Any]:
    try:
        body = decoded(content.decode("utf-8"))
    except (UnicodeDecodeError, NotJson, Flawed) as problem:
        raise BadRequest(f"the body is not the JSON that we take: {problem}") from problem
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    for name in body:
        if name not in known:
            raise BadRequest(f"there is no field {name!r}", fix=f"known are: {', '.join(sorted(known))}")
    return {name: known[name](name, value) for name, value in body.items()}


def text(name: str, value: Any) -> str:
    if not isinstance(value, str) or has_lone_surrogate(value):
        raise BadRequest(f"the field {name!r} is not a string of Unicode text")
    if not value:
        raise BadRequest(f"no {name} is named: {name!r} is empty")
    return value


def path(name: str, value: str) -> str:
    if not value:
        raise BadRequest(f"no {name} is named: {name!r} is empty")
    if not are_of_the_system([value]):
        raise BadRequest(f"the field {name!r} is not a path")
    return value


def folder(name: str, value: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or not are_of_the_system([value]):
        raise BadRequest(f"the field {name!r} is not an absolute path")
    return path_of(value)


def environment(name: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not are_of_the_system([*value, *value.values()]):
        raise BadRequest(f"the field {name!r} is not an object of strings")
    return value


def words(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not are_of_the_system(value):
        raise BadRequest(f"the field {name!r} is not an array of strings")
    return value


def are_of_the_system(values: Iterable[Any]) -> bool:
    """Whether they are strings as `os.fsdecode` makes them: bytes that are not UTF-8 come as lone surrogates."""
    try:
        "".join(values).encode("utf-8", "surrogateescape")
    except (TypeError, UnicodeEncodeError):
        return False
    return True


def arguments(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"the field {name!r} is not an object")
    try:
        refuse_flaws(value)
    except Flawed as problem:
        raise BadRequest(f"the field {name!r}: {problem}") from problem
    return value


def seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LONGEST_TIMEOUT:
        raise BadRequest(f"the field {name!r} is not a number of seconds up to {LONGEST_TIMEOUT:g}")
    return float(value)


def truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"the field {name!r} is not true or false")
    return value


LIST_FIELDS: Mapping[str, Field] = {"cwd": folder, "env": environment, "session": text, "read_only": truth}
CALL_FIELDS: Mapping[str, Field] = {
    **LIST_FIELDS,
    "tool": text,
    "arguments": arguments,
    "argv": words,
    "timeout": seconds,
    "tty": truth,
    "call_id": text,
}
