"""`${args.…}` and `${steps.…}` in the config: read when the app is connected to, filled in at the call.

Both happen in one pass: what a value holds is never looked into again. `$$` is a dollar, and a dollar before anything
else stays.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

DOLLARS = re.compile(r"\$\$|\$\{([^}]*)(\}?)")

# No list has more items; and Python reads no number of thousands of digits.
INDEX = re.compile(r"[0-9]{1,9}")

NOTHING: Final = object()
"""What stands for a value that is not there: null is one that is."""


class NotATemplate(ValueError):
    """A `${` that nothing ends, or with nothing between two of its dots."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What one `${…}` names, part by part: `${args.items.0}` is ("args", "items", "0")."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"${{{'.'.join(self.path)}}}"


Lookup: TypeAlias = Callable[[Reference], Any]
"""Finds the value, or answers `NOTHING`."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text with references in it."""

    parts: tuple[str | Reference, ...]

    def filled(self, lookup: Lookup) -> Any:
        """The value itself where the text is one reference and nothing else; text in any other case."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Reference):
            return lookup(self.parts[0])
        return "".join(part if isinstance(part, str) else as_text(lookup(part)) for part in self.parts)


def read(value: Any) -> Any:
    """A copy of `value` (JSON) that can be filled in; the keys of mappings stay as they are.

    Raises:
        NotATemplate: a string in it has a `${` that is none.
    """
    match value:
        case str():
            return read_text(value)
        case list():
            return [read(item) for item in value]
        case dict():
            return {key: read(item) for key, item in value.items()}
    return value


def read_text(text: str) -> str | Template:
    """As `read`, for a string, which stays one where it has no reference in it."""
    parts: list[str | Reference] = []
    literal, end = "", 0
    for found in DOLLARS.finditer(text):
        literal += text[end : found.start()]
        end = found.end()
        if found[0] == "$$":
            literal += "$"
        else:
            parts += [literal, read_reference(found)]
            literal = ""
    literal += text[end:]
    return Template(tuple(filter(None, [*parts, literal]))) if parts else literal


def read_reference(found: re.Match[str]) -> Reference:
    path = found[1].split(".")
    if not found[2] or not all(path):
        raise NotATemplate(f"{found[0][:40]!r} is no template")
    return Reference(tuple(path))


def references(read_value: Any) -> Iterator[Reference]:
    """Every reference in what `read` made."""
    match read_value:
        case Template():
            yield from (part for part in read_value.parts if isinstance(part, Reference))
        case list() | tuple():
            for item in read_value:
                yield from references(item)
        case dict():
            yield from references(list(read_value.values()))


def fill(read_value: Any, lookup: Lookup) -> Any:
    """What `read` made, with the values in it. What is one reference, and to nothing, is left out."""
    match read_value:
        case Template():
            return read_value.filled(lookup)
        case list():
            return [value for item in read_value if (value := fill(item, lookup)) is not NOTHING]
        case dict():
            filled = {key: fill(item, lookup) for key, item in read_value.items()}
            return {key: value for key, value in filled.items() if value is not NOTHING}
    return read_value


def inside(value: Any, path: Sequence[str]) -> Any:
    """What lies in `value` (JSON) at `path`: names of mappings, and indexes of lists."""
    for part in path:
        match value:
            case dict() if part in value:
                value = value[part]
            case list() if INDEX.fullmatch(part) and int(part) < len(value):
                value = value[int(part)]
            case _:
                return NOTHING
    return value


def as_text(value: Any) -> str:
    """Strings as they are, nothing as no text, and any other value as JSON."""
    if value is NOTHING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
