"""Lists and calls tools over pooled sessions: the tool-list cache, the deadlines, and the one place that repeats."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tasak.core import policy
from tasak.core.app import App
from tasak.core.arguments import ArgumentReader
from tasak.core.clock import Clock, since_boot
from tasak.core.connection import Connection, with_last_words
from tasak.core.connection_manager import ConnectionManager, Lease
from tasak.core.nearest import nearest
from tasak.core.signature import help_text
from tasak.core.tool_cache import Tool, Tools
from tasak.errors import Busy, CallTimedOut, NotExecuted, OutcomeUnknown, TasakError, UnknownTool
from tasak.plugin import OnProgress
from tasak.request import Mark

# A server that pages for ever is cut off; nobody has this many tools.
MAX_PAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call as its caller made it: with `arguments`, or with the words of a command line."""

    app: App
    tool: str
    arguments: Mapping[str, Any] | None = None
    argv: Sequence[str] = ()
    on_progress: OnProgress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call: the server's `result` as it was sent, or the `help` that was asked for."""

    mark: Mark
    result: Mapping[str, Any] | None = None
    help: str | None = None

    @property
    def is_error(self) -> bool:
        return self.result is not None and self.result.get("isError") is True


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolList:
    """An app's tools, those that the user's policy lets be seen."""

    tools: Sequence[Tool]
    is_cached: bool
    age: float
    """Seconds since the server was asked."""
    ttl: float
    mark: Mark


@dataclass(slots=True)
class Deadline:
    """The end of a call whatever happens, counted from its first write; a repeated one has the same."""

    seconds: float
    at: float | None = None

    def begin(self) -> float:
        """The end, on the loop's clock."""
        if self.at is None:
            self.at = asyncio.get_running_loop().time() + self.seconds
        return self.at

    @property
    def is_over(self) -> bool:
        return self.at is not None and asyncio.get_running_loop().time() >= self.at


class ToolService:
    """All calls of this process go through here. `on_retry` hears the app's name of every repeated call."""

    def __init__(
        self,
        manager: ConnectionManager,
        *,
        clock: Clock = since_boot,
        on_retry: Callable[[str], None] = lambda app: None,
    ) -> None:
        self._manager = manager
        self._clock = clock
        self._on_retry = on_retry

    async def list_tools(self, app: App, *, refresh: bool = False) -> ToolList:
        """The app's tools.

        Raises:
            NotExecuted: the app cannot be reached.
            ServerError, OutcomeUnknown: it did not list them.
        """
        async with self._manager.lease(app) as lease:
            cached = None if refresh else lease.connection.tools.known(app.limits.cache_ttl)
            tools = cached or await ask(lease, anew=refresh)
            return ToolList(
                tools=[tool for name, tool in tools.by_name.items() if policy.is_allowed(app, name)],
                is_cached=cached is not None,
                age=self._clock() - tools.fetched_at,
                ttl=app.limits.cache_ttl,
                mark=lease.mark,
            )

    async def call(self, call: ToolCall) -> Answer:
        """Make the call, at most once unless the policy says otherwise.

        Raises:
            Usage, Denied: nothing was sent.
            NotExecuted: no byte of it was written.
            ServerError: the server answered with an error.
            OutcomeUnknown: it may have run.
        """
        policy.require_allowed(call.app, call.tool)
        deadline = Deadline(call.app.limits.call_timeout_max)
        for left in range(call.app.limits.retries, -1, -1):
            try:
                return await self._call_once(call, deadline)
            except TasakError as problem:
                if not left or deadline.is_over or not policy.may_run_again(problem, call.app, call.tool):
                    raise
                self._on_retry(call.app.name)
        raise AssertionError("the last attempt returns or raises")

    async def _call_once(self, call: ToolCall, deadline: Deadline) -> Answer:
        async with self._manager.lease(call.app) as lease:
            tools = await tools_with(lease, call.tool)
            given = arguments_of(call, tools.reader(call.app.name, call.tool))
            if given is None:
                return Answer(mark=lease.mark, help=help_text(call.app.name, tools.by_name[call.tool]))
            result = await self._send(lease, call, given, deadline)
            return Answer(mark=lease.mark, result=result)

    async def _send(
        self, lease: Lease, call: ToolCall, given: Mapping[str, Any], deadline: Deadline
    ) -> Mapping[str, Any]:
        limits = call.app.limits
        connection = lease.connection
        async with turn(connection, limits.call_timeout):
            connection.calls += 1
            try:
                async with asyncio.timeout_at(deadline.begin()):
                    result = await lease.session.request(
                        "tools/call",
                        {"name": call.tool, "arguments": given},
                        timeout=limits.call_timeout,
                        on_progress=call.on_progress,
                    )
            except TimeoutError:
                raise CallTimedOut(
                    f"{call.app.name} {call.tool}: still at work after {limits.call_timeout_max:g} s",
                    fix="it may have run; raise call_timeout_max in the config if it needs longer",
                ) from None
            except (OutcomeUnknown, NotExecuted) as problem:
                raise explained(problem, call, lease) from problem
        connection.note_answer()
        return result


async def tools_with(lease: Lease, name: str) -> Tools:
    """The app's tools, with that of this name among them.

    Raises:
        UnknownTool: it is not among them, not even now.
        NotExecuted: the server does not list them.
    """
    app = lease.connection.app
    cached = lease.connection.tools.known(app.limits.cache_ttl)
    tools = cached or await ask(lease, anew=False)
    if name not in tools.by_name and cached:
        tools = await ask(lease, anew=True)
    if name not in tools.by_name:
        near = nearest(name, tools.by_name)
        raise UnknownTool(
            f"{app.name} has no tool {name!r}",
            fix=f"did you mean {near!r}?" if near else f"`tasak {app.name}` lists its tools",
        )
    return tools


async def ask(lease: Lease, *, anew: bool) -> Tools:
    return await lease.connection.tools.ask(functools.partial(fetch_tools, lease), anew=anew)


def arguments_of(call: ToolCall, reader: ArgumentReader) -> Mapping[str, Any] | None:
    """What the tool is to get; None where its help is wanted."""
    if call.arguments is not None:
        reader.check(call.arguments)
        return call.arguments
    parsed = reader.parse(call.argv)
    return None if parsed.wants_help else parsed.arguments


async def fetch_tools(lease: Lease) -> Mapping[str, Tool]:
    """Ask for every page; one that repeats a cursor has said all it has to say."""
    app = lease.connection.app
    tools: dict[str, Tool] = {}
    cursors: list[str] = []
    try:
        while len(cursors) < MAX_PAGES:
            page = await lease.session.request(
                "tools/list", {"cursor": cursors[-1]} if cursors else None, timeout=app.limits.list_timeout
            )
            tools.update((tool["name"], tool) for tool in as_tools(page.get("tools")))
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or cursor in cursors:
                break
            cursors.append(cursor)
    except (OutcomeUnknown, NotExecuted) as problem:
        # Listing changes nothing: whatever went wrong, the caller's call was not sent.
        message = with_last_words(f"{app.name}: listing its tools: {problem.message}", lease.session.last_words())
        raise NotExecuted(message, fix=problem.fix) from problem
    lease.connection.note_answer()
    return tools


def as_tools(listed: Any) -> list[Tool]:
    """The tools in what a server sent as their list; what has no name cannot be called."""
    if not isinstance(listed, list):
        return []
    return [tool for tool in listed if isinstance(tool, dict) and isinstance(tool.get("name"), str)]


@asynccontextmanager
async def turn(connection: Connection, seconds: float) -> AsyncIterator[None]:
    """Wait for one of the app's `parallel` places, `seconds` at the most.

    Raises:
        Busy: there was none.
    """
    if connection.gate is None:
        yield
        return
    try:
        async with asyncio.timeout(seconds):
            await connection.gate.acquire()
    except TimeoutError:
        name = connection.app.name
        raise Busy(
            f"{name}: other calls held its {connection.app.limits.parallel} places for {seconds:g} s",
            fix="try again, raise `parallel` or --timeout",
        ) from None
    try:
        yield
    finally:
        connection.gate.release()


def explained(problem: OutcomeUnknown | NotExecuted, call: ToolCall, lease: Lease) -> TasakError:
    """The same failure, naming app and tool, with the peer's last words where it is gone."""
    message = f"{call.app.name} {call.tool}: {problem.message}"
    fix = problem.fix
    if isinstance(problem, CallTimedOut):
        fix = fix or "it may have run; raise --timeout (or call_timeout in the config) if it needs longer"
    elif isinstance(problem, OutcomeUnknown):
        message = with_last_words(message, lease.session.last_words())
        fix = fix or "it may have run: look before you repeat it"
    return type(problem)(message, fix=fix)
