"""JSON's types, as JSON Schema counts them, and values that may be of any."""

from typing import Any

# In the order in which a reader expects them.
TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")


def both(some: frozenset[str], others: frozenset[str]) -> frozenset[str]:
    """The types that both allow. Where they exclude each other the server is wrong, and anything goes."""
    if not some or not others:
        return some or others
    common = widened(some) & widened(others)
    return common - {"integer"} if "number" in common else common


def widened(types: frozenset[str]) -> frozenset[str]:
    return types | {"integer"} if "number" in types else types


def types_of(value: Any) -> frozenset[str]:
    """The JSON types that `value` is of: an integer is a number, and so is 1.0 an integer (JSON Schema 2020-12)."""
    is_whole = isinstance(value, float) and value.is_integer()
    name = type_of(value)
    return frozenset({name, "number", "integer"} if is_whole or name == "integer" else {name})


def type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def is_same(some: Any, other: Any) -> bool:
    """JSON's equality: 1 is 1.0, but not true."""
    return isinstance(some, bool) == isinstance(other, bool) and bool(some == other)


def dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""
