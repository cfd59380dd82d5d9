"""One connection: a session, the task that owns it, and what the pool must know of it.

The owner task opens the session, waits until it is told to stop or the session ends, and closes it: opening and
closing belong to one task (anyio's cancel scopes). Everyone else only awaits requests.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum

from tasak.core.app import App
from tasak.core.clock import Clock
from tasak.core.host import AppHost
from tasak.core.tool_cache import ToolCache
from tasak.errors import BackingOff, ConnectFailed, ConnectTimedOut, NotExecuted, TasakError
from tasak.plugin import Session
from tasak.transports.registry import Transport

# As many of a server's last lines as a reader takes in.
QUOTED_LINES = 10


# A peer that has been silent for so long, or that slept with its machine, is asked whether it is there before a call.
LONG_REST = 60.0
CHECK_TIMEOUT = 5.0


class State(StrEnum):
    CONNECTING = "connecting"
    READY = "ready"
    BACKOFF = "backoff"
    CLOSING = "closing"
    CLOSED = "closed"


class Connection:
    """The pool's record of a session. Starts to connect when it is made; must be made inside a running loop."""

    def __init__(
        self,
        app: App,
        transport: Transport,
        host: AppHost,
        *,
        clock: Clock,
        is_restart: bool,
        on_answer: Callable[["Connection"], None],
        on_closed: Callable[["Connection"], None],
    ) -> None:
        self.id = secrets.token_hex(4)
        self.app = app
        self.state = State.CONNECTING
        self.is_restart = is_restart
        self.users = 0
        self.calls = 0
        self.answered = 0
        self.opened_at = clock()
        self.used_at = self.opened_at
        self.succeeded_at: float | None = None
        self.problem: TasakError | None = None
        self.tools = ToolCache(clock)
        self.gate = asyncio.Semaphore(app.limits.parallel) if app.limits.parallel else None
        self._transport = transport
        self._host = host
        self._clock = clock
        self._on_answer = on_answer
        self._on_closed = on_closed
        self._checking: asyncio.Task[bool] | None = None
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        # A failure that nobody waits for any more is no news.
        self._ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._owner = asyncio.create_task(self._own(), name=f"connection {self.id} to {app.name}")
        # Not in the task itself: one that is cancelled before its first step runs nothing at all.
        self._owner.add_done_callback(self._settle)

    @property
    def is_usable(self) -> bool:
        return self.state in (State.CONNECTING, State.READY) and not self.is_stopped

    @property
    def is_stopped(self) -> bool:
        """It was ended on purpose."""
        return self._stop.is_set()

    @property
    def is_idle(self) -> bool:
        return self.users == 0

    @property
    def session(self) -> Session | None:
        return self._ready.result() if self._ready.done() and not self._ready.exception() else None

    def has_expired(self, now: float) -> bool:
        """Whether its time is over; what is in use never expires."""
        limits = self.app.limits
        too_idle = limits.idle_ttl is not None and now - self.used_at >= limits.idle_ttl
        too_old = limits.max_age is not None and now - self.opened_at >= limits.max_age
        return self.is_idle and self.state is State.READY and (too_idle or too_old)

    def has_rested(self, now: float) -> bool:
        """Whether nothing has been heard of the peer for so long that a call should not count on it."""
        is_resting = self.is_idle and now - self.used_at >= LONG_REST
        return self.state is State.READY and (is_resting or self._checking is not None)

    async def ready(self) -> Session:
        """The session, once it is open. A caller that is cancelled does not cancel it for the others.

        Raises:
            NotExecuted: it could not be opened.
        """
        return await asyncio.shield(self._ready)

    async def ping(self) -> None:
        """Make a round trip to the peer."""
        await self._transport.ping(await self.ready())

    async def is_alive(self) -> bool:
        """Whether the peer answers a ping within `CHECK_TIMEOUT`; asked once, however many want to know."""
        if self._checking is None:
            self._checking = asyncio.create_task(self._check(), name=f"liveness of {self.id}")
        return await asyncio.shield(self._checking)

    async def _check(self) -> bool:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self.ping()
        except Exception as problem:  # noqa: BLE001 - plugin code
            self._host.log.info("connection %s does not answer a ping: %r", self.id, problem)
            return False
        else:
            self.used_at = self._clock()
            return True
        finally:
            self._checking = None

    def enter(self) -> None:
        self.users += 1

    def leave(self) -> None:
        self.users -= 1
        self.used_at = self._clock()

    def note_answer(self) -> None:
        self.answered += 1
        self.succeeded_at = self._clock()
        self._on_answer(self)

    def stop(self) -> None:
        """Begin to close; calls that are under way lose their session."""
        if not self._stop.is_set():
            self._stop.set()
            if self.state is State.CONNECTING:
                self._owner.cancel()

    async def closed(self) -> None:
        """Wait until the owner has let go of everything."""
        await asyncio.wait([self._owner])

    async def _own(self) -> None:
        try:
            await self._serve(await self._connect())
        except TasakError as problem:
            self._fail(problem)
        except (Exception, SystemExit) as problem:
            self._host.log.exception("transport %s", self.app.transport)
            self._fail(ConnectFailed(f"{self.app.name}: transport {self.app.transport}: {problem!r}"))

    def _settle(self, _: "asyncio.Task[None]") -> None:
        if not self._ready.done():
            self._fail(ConnectFailed(f"{self.app.name}: the connection was closed while it was opened"))
        self.state = State.CLOSED
        self._on_closed(self)

    async def _connect(self) -> Session:
        attempts = self.app.limits.init_attempts
        for attempt in range(1, attempts + 1):
            try:
                return await self._attempt()
            except NotExecuted as problem:
                # One that took all its time would take it again.
                if attempt == attempts or isinstance(problem, (ConnectTimedOut, BackingOff)):
                    raise self._described(problem) from problem
                self._host.log.info("attempt %d of %d to connect: %s", attempt, attempts, problem.message)
        raise AssertionError("init_attempts is at least 1")

    async def _attempt(self) -> Session:
        seconds = self.app.limits.init_timeout
        # Letting go of a hung server takes seconds, for which its callers need not wait.
        early = asyncio.get_running_loop().call_later(seconds, lambda: self._fail(self._timed_out(seconds)))
        try:
            async with asyncio.timeout(seconds):
                return await self._transport.connect(self.app.config, self._host)
        except TimeoutError:
            raise self._timed_out(seconds) from None
        finally:
            early.cancel()

    async def _serve(self, session: Session) -> None:
        try:
            if not self._ready.done():  # else its callers were told already that it took too long
                self.state = State.READY
                self.used_at = self._clock()
                self._ready.set_result(session)
                await self._until_over(session)
        finally:
            self.state = State.CLOSING
            await self._transport.close(session)

    async def _until_over(self, session: Session) -> None:
        waits = [asyncio.ensure_future(self._stop.wait()), asyncio.ensure_future(session.ended.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self.is_stopped and not self.answered:
            message = f"{self.app.name}: {self._command()} ended before it had answered"
            self.problem = ConnectFailed(with_last_words(message, session.last_words()))

    def _fail(self, problem: TasakError) -> None:
        self.problem = self.problem or problem
        if not self._ready.done():
            self._ready.set_exception(problem)
        if self.state is State.CONNECTING:
            self.state = State.CLOSING

    def _timed_out(self, seconds: float) -> ConnectTimedOut:
        return ConnectTimedOut(
            with_last_words(
                f"{self.app.name}: {self._command()} did not answer within {seconds:g} s", self._host.last_words()
            ),
            fix="raise init_timeout (TASAK_MCP_INIT_TIMEOUT) if it needs longer",
        )

    def _described(self, problem: NotExecuted) -> NotExecuted:
        if isinstance(problem, ConnectTimedOut):
            return problem
        message = with_last_words(f"{self.app.name}: {problem.message}", self._host.last_words())
        return type(problem)(message, fix=problem.fix or f"try it by hand: {self._command()}")

    def _command(self) -> str:
        words = self.app.config.options.get("command")
        return str(words[0]) if words else f"transport {self.app.transport}"


def with_last_words(message: str, lines: Sequence[str]) -> str:
    return "\n".join([message, *(f"  | {line}" for line in lines[-QUOTED_LINES:])])
