"""What the service answered, as the result of a tool."""

import base64
import json
from typing import Any

from tasak_rest.service import Answer

# Beside text/*; whatever ends so is text, too (RFC 6839).
TEXT_TYPES = frozenset(
    {
        "application/json",
        "application/graphql",
        "application/javascript",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/yaml",
    }
)
TEXT_SUFFIXES = ("+json", "+xml", "+yaml")

# They are the session's own business.
HIDDEN_HEADERS = frozenset({"set-cookie"})

Result = dict[str, Any]
Block = dict[str, Any]


def as_result(answer: Answer) -> Result:
    """The body as it came. What is no success is the tool's error, and its status comes first.

    Headers, such as the `link` to a next page, are in `_meta`.
    """
    response = answer.response
    is_error = not response.is_success and response.status_code != 304
    result: Result = {
        "content": [*([text_block(headline(answer))] if is_error else []), *blocks(answer)],
        "isError": is_error,
        "_meta": {"http": {"status": response.status_code, "headers": shown_headers(answer)}},
    }
    if isinstance(value := json_value(answer), dict):
        result["structuredContent"] = value
    return result


def failure(reason: str) -> Result:
    return {"content": [text_block(reason)], "isError": True}


def headline(answer: Answer) -> str:
    location = answer.response.headers.get("location") if answer.response.is_redirect else None
    return f"HTTP {answer.status}{f': it points at {location}, which is not followed' if location else ''}"


def shown_headers(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.response.headers.items() if name not in HIDDEN_HEADERS}


def blocks(answer: Answer) -> list[Block]:
    if not answer.body:
        return []
    kind = media_type(answer)
    if is_text(kind, answer.body):
        return [text_block(answer.text)]
    encoded = base64.b64encode(answer.body).decode()
    if kind.startswith(("image/", "audio/")):
        return [{"type": kind.partition("/")[0], "data": encoded, "mimeType": kind}]
    resource = {"uri": str(answer.response.url), "mimeType": kind or "application/octet-stream", "blob": encoded}
    return [{"type": "resource", "resource": resource}]


def json_value(answer: Answer) -> Any:
    """The value where the body is JSON; None where it is not, whatever it says of itself."""
    if media_type(answer) != "application/json" and not media_type(answer).endswith("+json"):
        return None
    try:
        return json.loads(answer.body, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def media_type(answer: Answer) -> str:
    said: str = answer.response.headers.get("content-type", "")
    return said.partition(";")[0].strip().lower()


def is_text(kind: str, body: bytes) -> bool:
    if kind:
        return kind.startswith("text/") or kind in TEXT_TYPES or kind.endswith(TEXT_SUFFIXES)
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}
