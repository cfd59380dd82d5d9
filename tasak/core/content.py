"""What a tool answers, as text and bytes to print."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tasak.core.json_types import dict_of, list_of, text_of
from tasak.core.strict_json import has_lone_surrogate
from tasak.inert import one_line

# The longest that anyone registered is shorter.
MIME_LENGTH = 100

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def as_text(result: Mapping[str, Any]) -> str:
    """The result of a `tools/call` for a person, or a program that reads lines: its blocks, each on its own line.

    Text stands there as the server sent it: whoever writes it to a terminal makes it inert first.
    """
    blocks = list_of(result.get("content"))
    if blocks:
        return "\n".join([*map(block_text, blocks), ""])
    structured = result.get("structuredContent")
    return "" if structured is None else f"{loose_json(structured, indent=2)}\n"


def as_bytes(text: str) -> bytes:
    """UTF-8 in any case: half a surrogate pair becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text).encode()


def as_json(value: Any) -> str:
    """One JSON document (RFC 8259) with a newline at its end, which UTF-8 can always carry.

    Raises:
        ValueError: JSON cannot say it: it holds NaN or an infinity, or is nested too deep.
    """
    try:
        document = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if has_lone_surrogate(document):
            document = json.dumps(value, allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return f"{document}\n"


def block_text(block: Any) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image" | "audio" as kind, "data": str(encoded)}:
            return placeholder(text_of(block.get("mimeType")) or kind, encoded)
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource", "resource": {"blob": str(encoded)}}:
            return placeholder(text_of(dict_of(block["resource"]).get("mimeType")) or "resource", encoded)
        case {"type": "resource_link", "uri": str(uri)}:
            return uri
    return loose_json(block)


def placeholder(kind: str, encoded: str) -> str:
    return f"[{one_line(kind, MIME_LENGTH)}, {decoded_size(encoded)} bytes; --json has the data]"


def decoded_size(encoded: str) -> int:
    """How many bytes are in base64, without making them."""
    digits = len(encoded) - sum(encoded.count(other) for other in "=\n\r\t ")
    return digits * 3 // 4


def loose_json(value: Any, indent: int | None = None) -> str:
    """JSON for the eye, on one line or indented, whatever a server made of it."""
    separators = None if indent else (",", ":")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    except (RecursionError, TypeError, ValueError):
        return "[it cannot be shown as JSON]"
