"""The text of a config file as plain values: YAML or JSON, strict, and bounded whatever the text is."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

from tasak.core.bad_text import MAX_DEPTH, MAX_NODES, TOO_DEEP, TOO_LARGE, BadText

Parse = Callable[[str], object]

# A long text counts once more for each of these many characters.
NODE_TEXT = 1024

_JSON = re.compile(r'\s*\{\s*["}]')


def parse(text: str) -> object:
    """The text's value: strings, numbers, true, false, null, lists, and mappings whose keys are strings.

    Raises:
        BadText: it is neither YAML nor JSON, or one of what we do not take: a key that is given twice or is no
            string, a tag, a second document, a NUL, more than `MAX_NODES` values, more than `MAX_DEPTH` floors.
    """
    # JSON not by the YAML parser, although every JSON text is YAML in principle: libyaml refuses "\ud83d\ude00".
    if _JSON.match(text):
        value = parse_json(text)
    else:
        # Lazy: a first call without any config goes without YAML.
        from tasak.core.config_yaml import parse_yaml

        value = parse_yaml(text)
    check(value)
    return value


def parse_json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=json_object, parse_constant=refuse_constant, parse_float=finite)
    except json.JSONDecodeError as problem:
        raise BadText(f"line {problem.lineno}, column {problem.colno}: {problem.msg}") from None
    except RecursionError:
        raise BadText(TOO_DEEP) from None
    except ValueError:
        raise BadText("a number has too many digits") from None


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadText(f"the key {key!r} is given twice")
        found[key] = value
    return found


def refuse_constant(name: str) -> object:
    raise BadText(f"{name} is no number in JSON")


def finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise BadText("a number in it is beyond floating point")
    return value


def check(value: object) -> None:
    """Walk the value as whoever uses it will: through every alias again."""
    pending = [(value, 1)]
    nodes = 0
    while pending:
        item, depth = pending.pop()
        nodes += 1
        match item:
            case str():
                nodes += len(item) // NODE_TEXT
                check_string(item)
            case list():
                pending.extend((part, depth + 1) for part in item)
            case dict():
                pending.extend((part, depth + 1) for pair in item.items() for part in pair)
        if nodes > MAX_NODES:
            raise BadText(TOO_LARGE)
        if depth > MAX_DEPTH:
            raise BadText(TOO_DEEP)


def check_string(text: str) -> None:
    # Not shown: it may be a secret.
    if "\0" in text:
        raise BadText("a text in it has a NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadText("a text in it has half of a surrogate pair") from None
