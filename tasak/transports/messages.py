"""JSON-RPC messages as they stand in a line, an event or a body: reading and writing one. Imports mcp."""

import json
import math
import re
from typing import Any

from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCNotification, JSONRPCResponse, jsonrpc_message_adapter

# How answers begin that name their request first, and end that name it last.
BEGINNING = re.compile(rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*([0-9]{1,18})\s*,\s*"(?:result|error)"')
END = re.compile(rb'"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*([0-9]{1,18})\s*\}\s*$')
LONGEST_END = 200
LONGEST_ID = 18

ANSWER = {"jsonrpc", "id", "result"}

# What JSON-RPC calls it.
PARSE_ERROR = -32700


def received(text: bytes) -> SessionMessage:
    """The same as `message_of`, as a session's stream carries it. Raises likewise."""
    return SessionMessage(message_of(text))


def message_of(text: bytes) -> JSONRPCMessage:
    """
    Raises:
        ValueError: it is no JSON-RPC message.
    """
    try:
        found = parse(text)
        if isinstance(found, dict) and found.keys() == ANSWER:
            # The one that callers wait for; to try what else it could be takes three times as long.
            return JSONRPCResponse.model_validate(found)
        return jsonrpc_message_adapter.validate_python(found)
    except RecursionError as problem:
        raise ValueError("nested too deeply") from problem


def as_text(message: JSONRPCMessage) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode()


def is_notification(message: JSONRPCMessage) -> bool:
    return isinstance(message, JSONRPCNotification)


def parse(line: bytes) -> Any:
    """JSON as RFC 8259 has it; bytes that are not UTF-8 become U+FFFD rather than the end of the session.

    An answer that says what we do not take becomes an error to the same request: nobody waits for another one.

    Raises:
        ValueError: it is not JSON.
    """
    text = line.decode("utf-8", "replace")
    try:
        return DECODER.decode(text)
    except RecursionError:
        if (request := answered_in(line)) is None:
            raise
        return refused(request, "it is nested too deep")
    except ValueError:
        match loosely(text):
            case {"id": int() | str() as asked, "result": _} | {"id": int() | str() as asked, "error": _}:
                return refused(asked, "a number in it is none, or beyond what we take")
        raise


def answered_in(text: bytes) -> int | None:
    """The number of the request that it answers, where it is at its beginning or its end."""
    found = BEGINNING.match(text) or END.search(text[-LONGEST_END:])
    return int(found[1]) if found else None


def result_in(text: bytes, request: int | None) -> dict[str, Any] | None:
    """What the answer to that request brings; None where it brings no result, or is none."""
    try:
        found = parse(text)
    except (ValueError, RecursionError):
        return None
    match found:
        case {"jsonrpc": "2.0", "id": int(answered), "result": dict(result)}:
            return result if answered == request and found.keys() == ANSWER else None
    return None


def refused(request: int | str, why: str) -> dict[str, Any]:
    error = {"code": PARSE_ERROR, "message": f"its answer cannot be read: {why}"}
    return {"jsonrpc": "2.0", "id": request, "error": error}


def loosely(text: str) -> Any:
    """The value less the numbers that are none, or too long; None if that is no JSON either."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=lambda _: None, parse_int=short)
    except (ValueError, RecursionError):
        return None


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond floating point")
    return number


def short(digits: str) -> int | None:
    return int(digits) if len(digits) <= LONGEST_ID else None


# Made once: `json.loads` would make one for every line.
DECODER = json.JSONDecoder(parse_constant=refuse, parse_float=finite)
