"""What a tool is made of, whether two lists of tools say the same, and where they differ, as lines to read."""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any, TypeAlias

from tasak.errors import NotExecuted
from tasak.inert import inert, one_line

# All that a client shows to a model or a user, or decides by.
FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "_meta")

# A server may send megabytes: of what is longer, and of what is beyond the sum, the digest alone is kept.
LONGEST_DEFINITION = 64 << 10
LONGEST_SUM = 4 << 20

# Comparing takes the product of both sides; longer ones are shown one below the other.
MOST_COMPARED = 100
CONTEXT = 3
WIDTH = 100
CONTINUED = 4

# Nobody reads more than this; a hostile server would have us compare for minutes.
MOST_LINES = 1000
NAMES_SHOWN = 10
LONGEST_NAME = 64
LONGEST_SUMMARY = 300

# A description is one line of JSON. Broken where its sentences end, one that is changed shows alone.
SENTENCE_END = re.compile(r"(?<=[.!?;]) (?=\S)|(?<=\\n)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedTool:
    """A tool as it was when it was seen. `definition` is None where that was too long to keep."""

    sha256: str
    definition: Mapping[str, Any] | None
    is_gone: bool = False
    """That it was removed has been said; it need not be said again when it comes and goes."""


Lock: TypeAlias = Mapping[str, LockedTool]
"""An app's tools by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The names of the tools that differ from a lock."""

    changed: Sequence[str] = ()
    new: Sequence[str] = ()
    removed: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.removed)

    def __contains__(self, tool: str) -> bool:
        """Whether the tool is there, and not as it was."""
        return tool in self.changed or tool in self.new

    def only(self, is_meant: Callable[[str], bool]) -> "Changes":
        return Changes(
            changed=[name for name in self.changed if is_meant(name)],
            new=[name for name in self.new if is_meant(name)],
            removed=[name for name in self.removed if is_meant(name)],
        )


NONE = Changes()


def locked(app: str, tools: Mapping[str, Mapping[str, Any]]) -> dict[str, LockedTool]:
    """The tools as they are now.

    Raises:
        NotExecuted: one of them is not JSON.
    """
    lock: dict[str, LockedTool] = {}
    total = 0
    for name, tool in tools.items():
        text = as_defined(app, tool)
        is_kept = len(text) <= LONGEST_DEFINITION and total + len(text) <= LONGEST_SUM
        total += len(text) if is_kept else 0
        lock[name] = LockedTool(sha256=sha256(text), definition=definition_of(tool) if is_kept else None)
    return lock


def definition_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {field: tool[field] for field in FIELDS if tool.get(field) is not None}


def as_defined(app: str, tool: Mapping[str, Any]) -> str:
    """The tool's definition as canonical JSON.

    Raises:
        NotExecuted: it is no JSON.
    """
    try:
        return canonical(definition_of(tool))
    except (TypeError, ValueError, RecursionError) as problem:
        raise NotExecuted(f"{app}: the definition of its tool {tool['name']!r} is no JSON: {problem}") from problem


def canonical(value: Any) -> str:
    """The same for the same JSON value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def compare(before: Lock, after: Lock) -> Changes:
    """What `after` has that `before` has not, and the other way round. The order of tools says nothing."""
    return Changes(
        changed=[name for name in after if name in before and not is_same(name, before, after)],
        new=[name for name in after if name not in before],
        removed=[name for name in before if name not in after and not before[name].is_gone],
    )


def not_seen(changes: Changes, seen: Lock, now: Lock) -> Changes:
    """Those of the changes that `seen` does not know of."""
    left = changes.only(lambda name: name not in seen or not is_same(name, seen, now))
    return replace(left, removed=[name for name in changes.removed if name not in seen or not seen[name].is_gone])


def is_same(name: str, one: Lock, other: Lock) -> bool:
    return name in one and name in other and one[name].sha256 == other[name].sha256


def merged(seen: Lock, now: Lock) -> Lock:
    """What is seen once `now` has been shown: tools that come and go again and again stay known."""
    gone = {name: replace(tool, is_gone=True) for name, tool in seen.items() if name not in now}
    return {**gone, **{name: seen[name] if is_same(name, seen, now) else tool for name, tool in now.items()}}


# ── as text ──────────────────────────────────────────────────────────────────────────────────────────────────────


def summary(changes: Changes) -> str:
    """Which tools are concerned, on one line."""
    kinds = (("changed", changes.changed), ("new", changes.new), ("removed", changes.removed))
    return one_line("; ".join(f"{kind}: {listing(names)}" for kind, names in kinds if names), LONGEST_SUMMARY)


def listing(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name, LONGEST_NAME) for name in names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def difference(changes: Changes, before: Lock, after: Lock) -> list[str]:
    """The changes, inert, line by line: of a new tool all that it says, of a removed one its name."""
    return list(islice(lines(changes, before, after), MOST_LINES))


def lines(changes: Changes, before: Lock, after: Lock) -> Iterator[str]:
    for name in changes.changed:
        yield f"{one_line(name)} is changed:"
        yield from map(inert, differing(readable(before[name]), readable(after[name])))
    for name in changes.new:
        yield f"{one_line(name)} is new:"
        yield from (f"+{inert(line)}" for line in readable(after[name]))
    for name in changes.removed:
        yield f"{one_line(name)} is removed"


def readable(tool: LockedTool) -> list[str]:
    """The definition in short lines."""
    if tool.definition is None:
        return [f"(too long to show; its SHA-256 is {tool.sha256})"]
    text = json.dumps(tool.definition, indent=2, sort_keys=True, ensure_ascii=False)
    return [piece for line in text.split("\n") for piece in pieces(line)]


def pieces(line: str) -> Iterable[str]:
    if len(line) <= WIDTH:
        return [line]
    sentences = SENTENCE_END.split(line)
    first, *rest = [part[at : at + WIDTH] for part in sentences for at in range(0, len(part), WIDTH)]
    margin = " " * (len(line) - len(line.lstrip(" ")) + CONTINUED)
    return [first, *(margin + piece for piece in rest)]


def differing(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """What is between the first and the last line that differ, with a little around it."""
    head = common(before, after)
    tail = common(before[:head:-1], after[:head:-1])
    old = before[max(0, head - CONTEXT) : len(before) - max(0, tail - CONTEXT)]
    new = after[max(0, head - CONTEXT) : len(after) - max(0, tail - CONTEXT)]
    if max(len(old), len(new)) > MOST_COMPARED:
        yield from (f"-{line}" for line in old)
        yield from (f"+{line}" for line in new)
        return
    # Three lines say which files and where: there are none.
    for line in islice(difflib.unified_diff(old, new, n=CONTEXT, lineterm=""), 3, None):
        yield "…" if line.startswith("@@") else line


def common(before: Sequence[str], after: Sequence[str]) -> int:
    """How many lines at their beginnings are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
