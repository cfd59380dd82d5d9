"""Lists and calls tools over pooled sessions: the tool-list cache, the deadlines, and the one place that repeats."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tasak.core import policy
from tasak.core.app import App
from tasak.core.arguments import ArgumentReader, place_of
from tasak.core.clock import Clock, since_boot
from tasak.core.connection import Connection
from tasak.core.connection_manager import ConnectionManager, Lease
from tasak.core.containment import apart
from tasak.core.listed import Listed, Tool, as_tools, by_name
from tasak.core.nearest import nearest
from tasak.core.schema import TooMuch, weight
from tasak.core.signature import help_text
from tasak.core.tool_cache import Tools
from tasak.core.tool_diff import Changes
from tasak.core.tool_lock import ToolLocks
from tasak.errors import (
    Busy,
    CallTimedOut,
    InputNeeded,
    NotExecuted,
    OutcomeUnknown,
    ServerError,
    SignInNeeded,
    TasakError,
    UnknownTool,
    Usage,
)
from tasak.failure import WHERE, kind
from tasak.last_words import with_last_words
from tasak.plugin import OnProgress
from tasak.request import Mark

# A server that pages for ever is cut off; nobody has this many tools.
MAX_PAGES = 1000
# What the tools of all pages may weigh: ten times what the largest server's do.
MAX_WEIGHT = 300_000

MAY_HAVE_RUN = "it may have run: look before you repeat it"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call as its caller made it: with `arguments`, or with the words of a command line."""

    app: App
    tool: str
    arguments: Mapping[str, Any] | None = field(default=None, repr=False)
    argv: Sequence[str] = field(default=(), repr=False)
    read_only: bool = False
    """Its caller may only read."""
    on_progress: OnProgress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call: the server's `result` as it was sent, or the `help` that was asked for."""

    mark: Mark
    result: Mapping[str, Any] | None = None
    help: str | None = None
    notices: Sequence[str] = ()
    """What the caller is to be told besides."""

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
    notices: Sequence[str] = ()
    """What the caller is to be told besides."""
    blocked: Sequence[str] = ()
    """The names of the tools that a call would refuse, since they are not what was accepted."""


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
        locks: ToolLocks,
        *,
        clock: Clock = since_boot,
        on_retry: Callable[[str], None] = lambda app: None,
    ) -> None:
        self._manager = manager
        self._locks = locks
        self._clock = clock
        self._on_retry = on_retry

    async def list_tools(self, app: App, *, refresh: bool = False, read_only: bool = False) -> ToolList:
        """The app's tools; with `read_only` those alone that a caller who may only read may call.

        Raises:
            Untrusted: such a caller may not use the app at all.
            NotExecuted: the app cannot be reached.
            ServerError, OutcomeUnknown: it did not list them.
        """
        if read_only:
            policy.require_vouched_for(app)
        async with self._manager.lease(app) as lease:
            cached = None if refresh else lease.connection.tools.known(app.limits.cache_ttl)
            tools = cached or await ask(lease, self._locks, anew=refresh)
            news = await self._locks.news_of_list(app, tools)
            listed = {
                name: tool
                for name, tool in tools.by_name.items()
                if policy.is_allowed(app, name) and (not read_only or policy.is_read_only(app, tool))
            }
            return ToolList(
                tools=list(listed.values()),
                is_cached=cached is not None,
                age=self._clock() - tools.fetched_at,
                ttl=app.limits.cache_ttl,
                mark=lease.mark,
                notices=(*news_of_pins(lease.connection), *news_of_names(app, tools.ambiguous), *news.notices),
                blocked=[name for name in news.blocked if name in listed],
            )

    async def read_tools(self, app: App) -> Mapping[str, Tool]:
        """What the server lists now, whatever was listed, allowed or locked before.

        Raises:
            AmbiguousTool: a tool that the user may call is two.
            NotExecuted, ServerError, OutcomeUnknown: as for `list_tools`.
        """
        async with self._manager.lease(app) as lease:
            listed = await fetch_tools(lease)
        if doubled := [name for name in listed.ambiguous if policy.is_allowed(app, name)]:
            raise policy.ambiguous(app, doubled)
        return listed.by_name

    async def call(self, call: ToolCall) -> Answer:
        """Make the call, at most once unless the policy says otherwise.

        Raises:
            Usage, Denied: nothing was sent.
            NotExecuted: no byte of it was written.
            ServerError: the server answered with an error.
            OutcomeUnknown: it may have run.
        """
        policy.require_allowed(call.app, call.tool)
        if call.read_only:
            policy.require_readable(call.app, call.tool)
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
            anew = call.read_only and policy.needs_servers_word(call.app, call.tool)
            tools = await tools_with(lease, self._locks, call.tool, anew=anew)
            await self._locks.require_accepted(call.app, tools, call.tool)
            if call.read_only and not policy.is_read_only(call.app, tools.by_name[call.tool]):
                raise policy.not_read_only(call.app, call.tool)
            given = arguments_of(call, tools.reader(call.app.name, call.tool))
            if given is None:
                text = help_text(call.app.name, tools.by_name[call.tool])
                return Answer(mark=lease.mark, help=text, notices=await self._news(lease, tools))
            result = await self._send(lease, call, given, deadline)
            return Answer(mark=lease.mark, result=result, notices=await self._news(lease, tools))

    async def _news(self, lease: Lease, tools: Tools) -> Sequence[str]:
        lease.connection.has_told_restart = True
        of_tools = await self._locks.news(lease.connection.app, tools)
        return of_tools if lease.connection.has_told_pins else (*news_of_pins(lease.connection), *of_tools)

    async def _send(
        self, lease: Lease, call: ToolCall, given: Mapping[str, Any], deadline: Deadline
    ) -> Mapping[str, Any]:
        connection = lease.connection
        async with turn(connection, call.app.limits.call_timeout):
            connection.calls += 1
            try:
                result = await asked(lease, call, given, deadline)
            except OutcomeUnknown as problem:
                connection.note_loss(problem)
                raise
        connection.note_answer()
        if result.get("resultType") == "input_required":
            raise InputNeeded(
                f"{call.app.name} {call.tool}: the server asks a question before it goes on",
                fix="give it what it asks for as arguments, if the tool takes them: tasak cannot answer it",
            )
        return result


async def asked(lease: Lease, call: ToolCall, given: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
    """The server's result; what goes wrong names app and tool."""
    limits = call.app.limits
    try:
        async with asyncio.timeout_at(deadline.begin()):
            return await ask_peer(
                lease,
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
    except (OutcomeUnknown, NotExecuted, SignInNeeded, Usage) as problem:
        raise explained(problem, call, lease) from problem


async def tools_with(lease: Lease, locks: ToolLocks, name: str, *, anew: bool) -> Tools:
    """The app's tools, with that of this name among them; with `anew` not as they were known before.

    Raises:
        UnknownTool: it is not among them, not even now.
        AmbiguousTool: its name stands for more than one.
        NotExecuted: the server does not list them.
        BadConfig: their lock is broken.
    """
    app = lease.connection.app
    cached = None if anew else lease.connection.tools.known(app.limits.cache_ttl)
    try:
        tools = cached or await ask(lease, locks, anew=anew)
        if name not in tools.by_name and cached:
            tools = await ask(lease, locks, anew=True)
    except ServerError as problem:  # an answer, but not to the call
        raise NotExecuted(f"{app.name}: listing its tools: {problem.message}", fix=problem.fix) from problem
    if name in tools.ambiguous:
        raise policy.ambiguous(app, [name])
    if name not in tools.by_name:
        near = nearest(name, [tool for tool in tools.by_name if policy.is_allowed(app, tool)])
        hint = f"did you mean {near!r}?" if near else f"`tasak {app.name}` lists its tools"
        raise UnknownTool(f"{app.name} has no tool {name!r}", fix=place_of(name, app.name) or hint)
    return tools


def news_of_pins(connection: Connection) -> Sequence[str]:
    """What its command leaves open: with the first answer over each connection."""
    if connection.has_told_pins:
        return ()
    connection.has_told_pins = True
    # Lazy: nothing that a warm call needs.
    from tasak.core.pins import unpinned

    return unpinned(connection.app)


def news_of_names(app: App, ambiguous: Collection[str]) -> Sequence[str]:
    doubled = [name for name in ambiguous if policy.is_allowed(app, name)]
    return (policy.ambiguous(app, doubled).message,) if doubled else ()


async def ask(lease: Lease, locks: ToolLocks, *, anew: bool) -> Tools:
    return await lease.connection.tools.ask(functools.partial(fetch_and_look, lease, locks), anew=anew)


async def fetch_and_look(lease: Lease, locks: ToolLocks) -> tuple[Listed, Changes]:
    listed = await fetch_tools(lease)
    return listed, await locks.look(lease.connection.app, listed.by_name)


def arguments_of(call: ToolCall, reader: ArgumentReader) -> Mapping[str, Any] | None:
    """What the tool is to get; None where its help is wanted."""
    if call.arguments is not None:
        reader.check(call.arguments)
        return call.arguments
    parsed = reader.parse(call.argv)
    return None if parsed.wants_help else parsed.arguments


async def fetch_tools(lease: Lease) -> Listed:
    """Ask for every page; one that repeats a cursor has said all it has to say."""
    app = lease.connection.app
    tools: list[Tool] = []
    cursors: list[str] = []
    left = MAX_WEIGHT
    try:
        async with asyncio.timeout(app.limits.call_timeout_max):
            while len(cursors) < MAX_PAGES:
                cursor = {"cursor": cursors[-1]} if cursors else None
                page = await ask_peer(lease, "tools/list", cursor, timeout=app.limits.list_timeout)
                left -= weight(page, left)
                tools += as_tools(page.get("tools"))
                following = page.get("nextCursor")
                if not isinstance(following, str) or following in cursors:
                    break
                cursors.append(following)
    except TimeoutError:
        raise NotExecuted(f"{app.name}: it did not come to the end of its tools") from None
    except TooMuch as problem:
        raise NotExecuted(f"{app.name}: its list of tools {problem}: we do not take it") from None
    except (OutcomeUnknown, NotExecuted) as problem:
        # Listing changes nothing: whatever went wrong, the caller's call was not sent.
        message = with_last_words(f"{app.name}: listing its tools: {problem.message}", lease.connection.last_words())
        raise NotExecuted(message, fix=problem.fix) from problem
    except SignInNeeded as problem:
        raise SignInNeeded(f"{app.name}: {problem.message}", fix=problem.fix or sign_in(app)) from problem
    lease.connection.note_answer()
    return by_name(app.name, tools)


async def ask_peer(lease: Lease, method: str, params: Mapping[str, Any] | None, **how: Any) -> dict[str, Any]:
    """The session's answer. It is plugin code: whatever else comes out of it than an error of ours, it may have run."""
    try:
        answer = await apart(lease.connection.blame, lease.session.request, method, params, **how)
    except TasakError:
        raise
    except Exception as problem:
        log.exception("a request")
        lease.connection.blame(f"failed with {kind(problem)} in a request")
        fix = f"{MAY_HAVE_RUN}\n{WHERE}" if method == "tools/call" else WHERE
        raise OutcomeUnknown(f"its transport failed: {kind(problem)}", fix=fix) from problem
    if not isinstance(answer, dict):
        raise OutcomeUnknown(f"its transport answered {type(answer).__name__} instead of a dict")
    return answer


def turn(connection: Connection, seconds: float) -> AbstractAsyncContextManager[None]:
    """Wait for one of the app's `parallel` places, `seconds` at the most.

    Raises:
        Busy: there was none.
    """
    return place(connection, connection.gate, seconds) if connection.gate else nullcontext()


@asynccontextmanager
async def place(connection: Connection, gate: asyncio.Semaphore, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            await gate.acquire()
    except TimeoutError:
        name = connection.app.name
        raise Busy(
            f"{name}: other calls held its {connection.app.limits.parallel} places for {seconds:g} s",
            fix="try again, raise `parallel` or --timeout",
        ) from None
    try:
        yield
    finally:
        gate.release()


def explained(problem: TasakError, call: ToolCall, lease: Lease) -> TasakError:
    """The same failure, naming app and tool, with the peer's last words where it is gone."""
    message = f"{call.app.name} {call.tool}: {problem.message}"
    fix = problem.fix
    if isinstance(problem, CallTimedOut):
        fix = fix or "it may have run; raise --timeout (or call_timeout in the config) if it needs longer"
    elif isinstance(problem, SignInNeeded):
        fix = fix or sign_in(call.app)
    elif isinstance(problem, OutcomeUnknown):
        message = with_last_words(message, lease.connection.last_words())
        fix = fix or MAY_HAVE_RUN
    return type(problem)(message, fix=fix)


def sign_in(app: App) -> str:
    return f"run `tasak auth login {app.name}`"
