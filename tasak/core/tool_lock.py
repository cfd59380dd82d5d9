"""Whether an app's tools are still what its user saw last, or accepted: trust on first use, as ssh has it for hosts.

A tool that was harmless yesterday may ask for more today, or tell a model something else. Each list that comes from a
server is compared, once; a call that needs no new list costs nothing more. With `on_tool_change: warn` a difference is
told with the first answer after it, and is known from then on; with `block` the tool is not called until `tasak lock`
has accepted it.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from tasak.core import policy
from tasak.core.app import App
from tasak.core.connection_manager import remember
from tasak.core.listed import Tool
from tasak.core.tool_cache import Tools
from tasak.core.tool_diff import NONE, Changes, Lock, compare, difference, listing, locked, merged, not_seen, summary
from tasak.core.tool_lock_file import LockFiles
from tasak.errors import BadConfig, TasakError, ToolChanged
from tasak.paths import StateDir
from tasak.threads import aside

# A notice is a header of an HTTP answer, too, and there are clients that take one of 8 KiB at the most.
SHOWN_LINES = 40
SHOWN_BYTES = 4000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The tools of an app as they are now, beside what is known of them."""

    app: App
    files: LockFiles
    accepted: Lock | None
    """By the project; None where it says nothing."""
    seen: Lock | None
    """None where this is the first use."""
    now: Lock

    @property
    def before(self) -> Lock:
        """What counts; on the first use, what is there."""
        if self.accepted is not None:
            return self.accepted
        return self.now if self.seen is None else self.seen

    @property
    def everything(self) -> Changes:
        """All that differs, and was not told yet where telling is enough."""
        found = compare(self.before, self.now)
        return not_seen(found, self.seen or {}, self.now) if self.app.on_tool_change == "warn" else found

    @property
    def changes(self) -> Changes:
        """What of it concerns the user: not the tools that nobody may see."""
        return self.everything.only(partial(policy.is_allowed, self.app))


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReport:
    """What `tasak lock` has found or done."""

    app: str
    file: Path
    tools: int
    changes: Changes
    difference: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNews:
    """What is to be told beside a list of tools."""

    notices: Sequence[str] = ()
    blocked: Sequence[str] = ()
    """The names of those that a call would refuse."""


class ToolLocks:
    """The locks of one user's apps. Its methods read files in a thread of their own; none holds up the loop."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._notices: OrderedDict[tuple[str, Path | None], str] = OrderedDict()

    @property
    def notices(self) -> Mapping[tuple[str, Path | None], str]:
        """The last change of each app, a line each; one that is blocked goes when it is accepted."""
        return self._notices

    def has_lock(self, app: str, file: Path | None) -> bool:
        """Whether anything is known of the tools of the app that `file` defines."""
        return os.path.lexists(LockFiles.of(self._state, app, file).counting)

    def require_lock(self, app: App) -> None:
        """
        Raises:
            BadConfig: nothing is known of the app's tools.
        """
        if not self.has_lock(app.name, app.file):
            raise not_locked(app.name)

    async def look(self, app: App, tools: Mapping[str, Tool]) -> Changes:
        """Compare what the server lists with what is known. The first list of all is what is known from then on.

        Raises:
            BadConfig: what is known cannot be read; or it cannot be kept, and the app wants it to block.
            NotExecuted: a tool is no JSON.
        """
        if app.on_tool_change == "ignore":
            return NONE
        changes = await aside(self._look, app, tools)
        self._note(app, changes)
        return changes

    async def require_accepted(self, app: App, tools: Tools, tool: str) -> None:
        """
        Raises:
            ToolChanged: the tool is not what was accepted, not even now.
        """
        if app.on_tool_change != "block" or tool not in tools.changes:
            return
        found = await aside(self._compare, app, tools.by_name)
        tools.changes = found.changes
        self._note(app, tools.changes)
        if tool in tools.changes:
            raise refusal(found, tool)

    async def news(self, app: App, tools: Tools) -> Sequence[str]:
        """What the caller is to be told of this list: once."""
        if tools.is_told:
            return ()
        if tools.telling is None:
            tools.telling = asyncio.create_task(self._told(app, tools), name="what is told of changed tools")
        # A caller that is cancelled meanwhile was not told: the next one is.
        told = await asyncio.shield(tools.telling)
        if tools.is_told:
            return ()
        tools.is_told = True
        return told

    async def news_of_list(self, app: App, tools: Tools) -> ListNews:
        """What is to be told of the list to who reads it: each time, until an answer to a call has told it."""
        if not tools.changes or (tools.is_told and app.on_tool_change != "block"):
            return ListNews()
        try:
            return await aside(self._stands, app, tools)
        except TasakError as problem:
            log.warning("%s: the change of its tools is not told: %s", app.name, problem)
            # What was refused so far still is.
            return news_of_block(app, tools.changes) if app.on_tool_change == "block" else ListNews()

    async def accept(self, app: App, tools: Mapping[str, Tool]) -> LockReport:
        """Make these tools what is accepted.

        Raises:
            BadConfig: that cannot be written.
        """
        return await aside(self._accept, app, tools)

    async def check(self, app: App, tools: Mapping[str, Tool]) -> LockReport:
        """Compare, and change nothing.

        Raises:
            BadConfig: what is known cannot be read.
        """
        return await aside(self._check, app, tools)

    async def _told(self, app: App, tools: Tools) -> Sequence[str]:
        if app.on_tool_change == "block":
            return (headline(app, tools.changes),)
        try:
            return await aside(self._announce, app, tools.by_name)
        except TasakError as problem:
            # The call has run: whatever is wrong with the lock, the next list will tell.
            log.warning("%s: the change of its tools is not told: %s", app.name, problem)
            return ()

    def _compare(self, app: App, tools: Mapping[str, Tool]) -> Comparison:
        files = LockFiles.of(self._state, app.name, app.file)
        return Comparison(
            app=app,
            files=files,
            accepted=files.read_accepted(),
            seen=files.read_seen(),
            now=locked(app.name, tools),
        )

    def _look(self, app: App, tools: Mapping[str, Tool]) -> Changes:
        found = self._compare(app, tools)
        if not found.everything:
            keep(found)
        return found.changes

    def _announce(self, app: App, tools: Mapping[str, Tool]) -> Sequence[str]:
        # Read again: another session, or another process, may have told it meanwhile.
        found = self._compare(app, tools)
        if not found.changes:
            return ()
        told = announcement(found)
        keep(found)
        return (told,)

    def _stands(self, app: App, tools: Tools) -> ListNews:
        found = self._compare(app, tools.by_name)
        if app.on_tool_change == "block":
            tools.changes = found.changes  # it may have been accepted meanwhile
            self._note(app, tools.changes)
            return news_of_block(app, tools.changes)
        return ListNews(notices=(announcement(found),)) if found.changes else ListNews()

    def _accept(self, app: App, tools: Mapping[str, Tool]) -> LockReport:
        files = LockFiles.of(self._state, app.name, app.file)
        now = locked(app.name, tools)
        try:
            accepted = files.read_accepted()
            before = files.read_seen() if accepted is None else accepted
        except BadConfig:
            before = None  # mending it is what we are here for
        try:
            file = files.write_accepted(now)
        except OSError as problem:
            raise BadConfig(f"{app.name}: its lock cannot be written: {problem}") from problem
        if files.accepted:
            keep_seen(files, now)
        return report(app, file, now if before is None else before, now)

    def _check(self, app: App, tools: Mapping[str, Tool]) -> LockReport:
        found = self._compare(app, tools)
        return report(app, found.files.counting, found.before, found.now)

    def _note(self, app: App, changes: Changes) -> None:
        if changes:
            remember(self._notices, (app.name, app.file), headline(app, changes))
        elif app.on_tool_change == "block":
            self._notices.pop((app.name, app.file), None)


def keep(found: Comparison) -> None:
    """Let what is there now be what was seen, if it can be written.

    Raises:
        BadConfig: it cannot, and without it there is nothing to block by.
    """
    lock = merged({**(found.accepted or {}), **(found.seen or {})}, found.now)
    if lock == found.seen:
        return
    problem = keep_seen(found.files, lock)
    if problem and found.app.on_tool_change == "block" and found.accepted is None and found.seen is None:
        raise problem


def keep_seen(files: LockFiles, lock: Lock) -> BadConfig | None:
    """Write it; why it cannot be written, which most calls need not care about."""
    try:
        files.write_seen(lock)
    except (OSError, BadConfig) as problem:
        message = f"{files.app}: its tools cannot be remembered: {problem}"
        log.warning(message)
        return BadConfig(message, fix=problem.fix if isinstance(problem, BadConfig) else None)
    return None


def report(app: App, file: Path, before: Lock, now: Lock) -> LockReport:
    changes = compare(before, now).only(partial(policy.is_allowed, app))
    return LockReport(
        app=app.name, file=file, tools=len(now), changes=changes, difference=difference(changes, before, now)
    )


def announcement(found: Comparison) -> str:
    """The changes with as much of their difference as a reader takes in; all of it stands in a file."""
    changes, top = found.changes, headline(found.app, found.changes)
    lines = difference(changes, found.before, found.now)
    try:
        found.files.write_difference("\n".join([top, *lines, ""]))
    except (OSError, BadConfig) as problem:
        log.warning("%s: the change of its tools is not kept: %s", found.app.name, problem)
    return "\n".join([top, *shortened(lines, f": {found.files.difference}")])


def news_of_block(app: App, changes: Changes) -> ListNews:
    """Of an app whose changed tools are blocked."""
    blocked = (*changes.changed, *changes.new)
    lines = [headline(app, changes)] if changes else []
    if blocked:
        lines.append(f"  blocked until then: {listing(blocked)}")
    return ListNews(notices=("\n".join(lines),) if lines else (), blocked=blocked)


def headline(app: App, changes: Changes) -> str:
    if app.on_tool_change == "block":
        return f"{app.name}: its tools are not what was accepted: {summary(changes)}; {how_to_accept(app.name)}"
    return f"{app.name}: its tools are not what they were: {summary(changes)}"


def refusal(found: Comparison, tool: str) -> ToolChanged:
    concerned = found.changes.only(lambda name: name == tool)
    lines = difference(concerned, found.before, found.now)
    what = "is new, and was never accepted" if concerned.new else "has changed since it was accepted"
    message = f"{found.app.name} {tool}: the tool {what}; it was not called"
    return ToolChanged("\n".join([message, *shortened(lines)]), fix=how_to_accept(found.app.name))


def how_to_accept(app: str) -> str:
    return f"`tasak lock {app}` accepts its tools as they are now"


def not_locked(app: str) -> BadConfig:
    return BadConfig(f"{app}: its tools are not locked", fix=how_to_accept(app))


def shortened(lines: Sequence[str], where: str = "") -> Sequence[str]:
    """As many of the lines as a reader takes in, set off from what stands before them."""
    shown: list[str] = []
    left = SHOWN_BYTES
    for line in lines[:SHOWN_LINES]:
        left -= len(quote(line, safe=" "))
        if left < 0:
            break
        shown.append(f"  {line}")
    if hidden := len(lines) - len(shown):
        shown.append(f"  … and {hidden} more lines{where}")
    return shown
