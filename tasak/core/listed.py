"""What a server sent as its list of tools, by name: one name is one tool, or it is none that can be called."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tasak.core.tool_diff import as_defined

Tool: TypeAlias = Mapping[str, Any]
"""A tool as `tools/list` has it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The tools by name, and the names of those that are left out (`policy.ambiguous`)."""

    by_name: Mapping[str, Tool]
    ambiguous: Collection[str]


def by_name(app: str, tools: Iterable[Tool]) -> Listed:
    """
    Raises:
        NotExecuted: a tool of a name that is there already is no JSON.
    """
    found: dict[str, Tool] = {}
    ambiguous: dict[str, None] = {}
    for tool in tools:
        name = tool["name"]
        first = found.setdefault(name, tool)
        if first is not tool and name not in ambiguous and as_defined(app, first) != as_defined(app, tool):
            ambiguous[name] = None
    return Listed({name: tool for name, tool in found.items() if name not in ambiguous}, ambiguous)


def as_tools(listed: Any) -> list[Tool]:
    """The tools in what a server sent as their list; what has no name cannot be called."""
    if not isinstance(listed, list):
        return []
    return [tool for tool in listed if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
