"""The tool list of one session: asked for once, however many callers want it, and kept until it has changed."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tasak.core.arguments import ArgumentReader
from tasak.core.clock import Clock
from tasak.core.listed import Listed, Tool
from tasak.core.tool_diff import NONE, Changes

Fetch: TypeAlias = Callable[[], Awaitable[tuple[Listed, Changes]]]
"""Asks the server, and sees what has changed."""


@dataclass(slots=True)
class Tools:
    """The tools by name, as they were when the server was asked."""

    by_name: Mapping[str, Tool]
    fetched_at: float
    changes: Changes = NONE
    """What of them is not as it was; a caller is told so once."""
    is_told: bool = True
    telling: "asyncio.Task[Sequence[str]] | None" = None
    """What a caller is told of them, which is made out once."""
    ambiguous: Collection[str] = ()
    """The names that stand for more than one tool, which are not among them."""
    _readers: dict[str, ArgumentReader] = field(default_factory=dict)

    def reader(self, app: str, tool: str) -> ArgumentReader:
        """Reading a schema is dear: once for each tool that is called."""
        if tool not in self._readers:
            self._readers[tool] = ArgumentReader(app, self.by_name[tool])
        return self._readers[tool]


class ToolCache:
    """What is known of one session's tools."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: Tools | None = None
        self._asking: asyncio.Task[Tools] | None = None

    def forget(self) -> None:
        """The list is no longer what it was; one that is under way may be the old one still."""
        self._known = None
        self._asking = None

    def known(self, ttl: float) -> Tools | None:
        """The list, if there is one of less than `ttl` seconds."""
        is_fresh = self._known is not None and self._clock() - self._known.fetched_at < ttl
        return self._known if is_fresh else None

    async def ask(self, fetch: Fetch, *, anew: bool) -> Tools:
        """The list from the server; with `anew` not one that was asked for before. Raises what `fetch` raises."""
        if self._asking is None or anew:
            self._asking = asyncio.create_task(self._fetch(fetch), name="tools/list")
            # A failure that nobody waits for any more is no news.
            self._asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        # A caller that is cancelled does not cancel it for the others.
        return await asyncio.shield(self._asking)

    async def _fetch(self, fetch: Fetch) -> Tools:
        this = asyncio.current_task()
        try:
            listed, changes = await fetch()
            found = Tools(listed.by_name, self._clock(), changes, is_told=not changes, ambiguous=listed.ambiguous)
            if self._asking is this:
                self._known = found
            return found
        finally:
            if self._asking is this:
                self._asking = None
