"""JSON as callers may write it: what two readers could take for two different things is an error, not a guess."""

import json
import math
import re
from collections import Counter
from typing import Any

# Deeper is an attempt on someone's stack.
MAX_DEPTH = 64
# Python refuses 4300 digits, and reading them takes quadratic time; nobody counts that far.
MAX_DIGITS = 1000

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")


class NotJson(ValueError):
    """The text is no JSON document."""


class Flawed(ValueError):
    """It is JSON, or a value made of it, of a kind that we do not take."""


def from_json(text: str) -> Any:
    """The value of a JSON document.

    Raises:
        NotJson: it is not one; NaN and Infinity are not JSON.
        Flawed: a key stands twice in an object, a number is beyond floating point or 1000 digits, a string holds
            half of a surrogate pair, or it is nested more than 64 deep.
    """
    value = decoded(text)
    refuse_flaws(value)
    return value


def decoded(text: str) -> Any:
    """As `from_json`, but halves of surrogate pairs and deep nesting are left for `refuse_flaws` to find."""
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as problem:
        raise NotJson(f"{problem.msg.lower()} at character {problem.pos + 1}") from None
    except RecursionError:
        raise Flawed(f"it is nested more than {MAX_DEPTH} deep") from None


def refuse_flaws(value: Any) -> None:
    """Check a value that was parsed elsewhere.

    Raises:
        Flawed: a number is not finite, a string holds half of a surrogate pair, or it is nested more than 64 deep.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        for each in level:
            refuse_flawed_scalar(each)
        level = [inner for each in level for inner in parts_of(each)]
        if not level:
            return
    if any(isinstance(each, list | dict) for each in level):
        raise Flawed(f"it is nested more than {MAX_DEPTH} deep")
    for each in level:
        refuse_flawed_scalar(each)


def refuse_flawed_scalar(value: Any) -> None:
    if isinstance(value, str) and has_lone_surrogate(value):
        raise Flawed("it holds half of a surrogate pair")
    if isinstance(value, float) and not math.isfinite(value):
        raise Flawed("a number in it is not finite")


def parts_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def has_lone_surrogate(text: str) -> bool:
    """Whether `text` holds half of a surrogate pair, as bytes that are not UTF-8 do when they come as text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def integer(text: str) -> int:
    """The integer that `text` is, digit by digit.

    Raises:
        NotJson: it is none: `1e3`, `1_000`, `1.0`, `+1` and `01` are not.
        Flawed: it has more than 1000 digits.
    """
    if not INTEGER.fullmatch(text):
        raise NotJson
    return bounded_integer(text)


def number(text: str) -> int | float:
    """The number that `text` is in JSON's syntax; one that is written as an integer stays one.

    Raises:
        NotJson: it is none.
        Flawed: it is beyond floating point, or has more than 1000 digits.
    """
    if not NUMBER.fullmatch(text):
        raise NotJson
    return bounded_integer(text) if INTEGER.fullmatch(text) else finite(text)


def bounded_integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise Flawed(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def finite(text: str) -> float:
    if len(text) > MAX_DIGITS:
        raise Flawed(f"a number has more than {MAX_DIGITS} digits")
    value = float(text)
    if math.isinf(value):
        raise Flawed("a number is beyond floating point")
    return value


def refuse_constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise Flawed(f"the key {json.dumps(name[:40])} stands twice in one object")
    return value


# Made once: `json.loads` would make one for every text.
DECODER = json.JSONDecoder(
    object_pairs_hook=without_duplicates,
    parse_constant=refuse_constant,
    parse_float=finite,
    parse_int=bounded_integer,
)
