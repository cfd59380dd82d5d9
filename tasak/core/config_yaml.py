"""A YAML text as plain values: no tags, no key given twice, no recursion, and bounded."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import yaml

from tasak.core.bad_text import MAX_DEPTH, MAX_NODES, TOO_DEEP, TOO_LARGE, BadText

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: slower, the same answers
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]  # the same interface

_TAG = "tag:yaml.org,2002:"

_LONGEST_NUMBER = 1000


def parse_yaml(text: str) -> object:
    """The only document's value; None for a text without one.

    Raises:
        BadText: it is no YAML, or more of it than we take.
    """
    try:
        return _Reader(_Loader(text)).read()
    except yaml.MarkedYAMLError as problem:
        mark: Any = problem.problem_mark or problem.context_mark
        raise BadText(f"{_place(mark) if mark else ''}{problem.problem or 'it is not YAML'}") from None
    except yaml.reader.ReaderError as problem:
        line = text.encode()[: problem.position].count(b"\n") + 1
        raise BadText(f"line {line}: {problem.reason}") from None


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: "


def _wrong(event: Any, what: str) -> BadText:
    return BadText(f"{_place(event.start_mark)}{what}")


@dataclass(slots=True)
class _Open:
    """A list or a mapping whose end is not read yet."""

    start: Any
    items: list[Any] = field(default_factory=list)
    pairs: dict[str, Any] = field(default_factory=dict)
    merged: list[dict[str, Any]] | None = None
    key: str | None = None
    """What the next value belongs to; in a mapping without one, a key comes next."""
    is_merging: bool = False
    """The next value is that of a `<<`."""

    @property
    def is_at_key(self) -> bool:
        return isinstance(self.start, yaml.MappingStartEvent) and self.key is None and not self.is_merging

    def begin(self, key: str) -> None:
        if key in self.pairs:
            raise KeyError(key)
        self.pairs[key] = None
        self.key = key

    def begin_merge(self) -> None:
        if self.merged is not None:
            raise KeyError("<<")
        self.is_merging = True

    def take(self, value: Any) -> None:
        if self.key is not None:
            self.pairs[self.key] = value
            self.key = None
        elif self.is_merging:
            self.merged = value if isinstance(value, list) else [value]
            self.is_merging = False
        else:
            self.items.append(value)

    def value(self) -> Any:
        if not isinstance(self.start, yaml.MappingStartEvent):
            return self.items
        found: dict[str, Any] = {}
        for each in reversed(self.merged or []):  # the first one wins
            found.update(each)
        return found | self.pairs


class _Reader:
    """Builds the value from the parser's events. The library's own composer recurses on the C stack, and its
    constructor no longer knows the lines."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._open: list[_Open] = []
        self._anchors: dict[str, Any] = {}
        self._nodes = 0
        self._documents = 0
        self._root: Any = None

    def read(self) -> Any:
        try:
            while self._loader.check_event():
                self._take(self._loader.get_event())
        finally:
            self._loader.dispose()
        return self._root

    def _take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._document(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.CollectionStartEvent():
                self._start(event)
            case yaml.CollectionEndEvent():
                done = self._open.pop()
                self._keep(done.start, done.value())

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _wrong(event, "there is a second document")

    def _alias(self, event: Any) -> None:
        self._count(event, 1)
        # One that is still open is not there yet either: nothing can contain itself.
        if event.anchor not in self._anchors:
            raise _wrong(event, f"*{event.anchor} refers to nothing before it")
        if self._is_at_key:
            raise _wrong(event, "a key has to be written out")
        self._give(event, self._anchors[event.anchor])

    def _start(self, event: Any) -> None:
        self._count(event, 1)
        if event.tag is not None and event.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            raise _wrong(event, f"the tag {event.tag!r} is not read")
        if self._is_at_key:
            raise _wrong(event, "a key has to be a string")
        if len(self._open) >= MAX_DEPTH:
            raise _wrong(event, TOO_DEEP)
        self._open.append(_Open(event))

    def _scalar(self, event: Any) -> None:
        self._count(event, 1)
        if not self._is_at_key:
            self._keep(event, self._plain(event))
            return
        try:
            if self._tag(event) == f"{_TAG}merge":
                self._open[-1].begin_merge()
            else:
                self._open[-1].begin(self._key(event))
        except KeyError as key:
            raise _wrong(event, f"the key {key} is given twice") from None

    @property
    def _is_at_key(self) -> bool:
        return bool(self._open) and self._open[-1].is_at_key

    def _key(self, event: Any) -> str:
        key = self._plain(event)
        if not isinstance(key, str):
            raise _wrong(event, f"the key {event.value!r} reads as {json.dumps(key)}: quote it")
        if event.anchor:
            self._anchors[event.anchor] = key
        return key

    def _tag(self, event: Any) -> str:
        if event.tag not in (None, f"{_TAG}str"):
            raise _wrong(event, f"the tag {event.tag!r} is not read")
        tag: str = event.tag or self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return tag

    def _plain(self, event: Any) -> Any:
        """Numbers, true, false and null; everything else is text: dates too, and `22:22`, a number to YAML 1.1."""
        tag = self._tag(event)
        kinds = ("int", "float", "bool", "null")
        if tag not in [f"{_TAG}{kind}" for kind in kinds] or ":" in event.value:
            return event.value
        try:
            value = self._loader.construct_object(yaml.ScalarNode(tag, event.value))
        except ValueError:
            raise _wrong(event, "this is no number: quote it") from None
        # Python reads binary digits without end, and cannot write such a number.
        if len(event.value) > _LONGEST_NUMBER or (isinstance(value, float) and not math.isfinite(value)):
            raise _wrong(event, "this number is beyond what we take: quote it if it is a text")
        return value

    def _keep(self, event: Any, value: Any) -> None:
        if event.anchor:
            self._anchors[event.anchor] = value
        self._give(event, value)

    def _give(self, event: Any, value: Any) -> None:
        if not self._open:
            self._root = value
            return
        if self._open[-1].is_merging:
            self._check_merge(event, value)
        self._open[-1].take(value)

    def _check_merge(self, event: Any, value: Any) -> None:
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                raise _wrong(event, "<< takes a mapping, or a list of them")
            self._count(event, 1 + len(each))

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _wrong(event, TOO_LARGE)
