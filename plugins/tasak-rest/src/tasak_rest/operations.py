"""A document's operations: where they are, what their tools are called, and which of them the user wants."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tasak.plugin import ConnectFailed

from tasak_rest.references import Reader, dict_of, list_of, text_of

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

# As much as the models behind MCP's clients take.
NAME_LENGTH = 64
DIGEST_LENGTH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation, as the document has it."""

    method: str
    path: str
    said: Mapping[str, Any]
    shared: Sequence[Any]
    """The parameters that all operations of the path have."""

    @property
    def place(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def own_id(self) -> str:
        return text_of(self.said.get("operationId"))

    @property
    def summary(self) -> str:
        return text_of(self.said.get("summary")).strip()

    @property
    def description(self) -> str:
        """What it does, and where."""
        said = text_of(self.said.get("description")).strip() or self.summary
        mark = "(deprecated) " if self.said.get("deprecated") is True else ""
        return f"{mark}{said}\n\n{self.place}" if said else f"{mark}{self.place}"


def named_operations(reader: Reader) -> dict[str, Operation]:
    """Every operation by its tool's name, in the document's order.

    A name depends on its operation, and on whether another one would have the same; not on the order.
    """
    operations = list(all_operations(reader))
    wanted = Counter(plain_name(operation) for operation in operations)
    owned = Counter(operation.own_id for operation in operations)
    named: dict[str, Operation] = {}
    for operation in operations:
        name = plain_name(operation)
        is_its_own = wanted[name] == 1 or (name == operation.own_id and owned[name] == 1)
        named[name if is_its_own else distinct(name, operation)] = operation
    return named


def selected(
    operations: Mapping[str, Operation], *, include: Collection[str], exclude: Collection[str]
) -> dict[str, Operation]:
    """Those that `include` names, or all if it is empty, less those that `exclude` names.

    Raises:
        ConnectFailed: there are none.
    """
    if not operations:
        raise ConnectFailed("the description has no operations")
    chosen = {
        name: operation
        for name, operation in operations.items()
        if not is_meant(exclude, name, operation) and (not include or is_meant(include, name, operation))
    }
    if not chosen:
        name, operation = next(iter(operations.items()))
        raise ConnectFailed(
            f"include and exclude leave none of the {len(operations)} operations",
            fix=f"they are globs over what is written {name!r} or {operation.place!r}",
        )
    return chosen


def all_operations(reader: Reader) -> Iterator[Operation]:
    for path, item in dict_of(reader.document.get("paths")).items():
        entry = {**reader.resolved(item), **dict_of(item)}
        for method in METHODS:
            if isinstance(said := entry.get(method), dict):
                yield Operation(method=method.upper(), path=path, said=said, shared=list_of(entry.get("parameters")))


def is_meant(globs: Collection[str], name: str, operation: Operation) -> bool:
    return any(
        fnmatchcase(candidate, glob) for glob in globs for candidate in (name, operation.own_id, operation.place)
    )


def plain_name(operation: Operation) -> str:
    """Its id, else its place, in the characters of MCP's tool names (2025-11-25, server/tools)."""
    words = operation.own_id or operation.method.lower() + operation.path
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", words).strip("_-.")
    return name if 0 < len(name) <= NAME_LENGTH else distinct(name, operation)


def distinct(name: str, operation: Operation) -> str:
    digest = hashlib.sha256(operation.place.encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{name[: NAME_LENGTH - DIGEST_LENGTH - 1]}_{digest}".lstrip("_")
