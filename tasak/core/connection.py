"""One connection: a session, the task that owns it, and what the pool must know of it.

The owner task opens the session, waits until it is told to stop or the session ends, and closes it: opening and
closing belong to one task (anyio's cancel scopes). Everyone else only awaits requests.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum

from tasak.core import connect_failures
from tasak.core.app import App
from tasak.core.clock import Clock
from tasak.core.containment import apart, checked, contained
from tasak.core.era import AnotherEra
from tasak.core.host import AppHost
from tasak.core.tool_cache import ToolCache
from tasak.errors import BackingOff, ConnectTimedOut, NotExecuted, OutcomeUnknown, ServerError, SignInNeeded, TasakError
from tasak.failure import kind
from tasak.plugin import Era, Session, SpeaksAnother
from tasak.transports.registry import Transport

# A peer that has been silent for so long, or that slept with its machine, is asked whether it is there before a call.
LONG_REST = 60.0
CHECK_TIMEOUT = 5.0

# A user who was just told where to sign in.
SIGN_IN_TIMEOUT = 300.0

# Asking politely, insisting and killing take a transport six seconds; whoever stops the daemon waits for ten.
CLOSE_TIMEOUT = 8.0
# A plugin that does not even end when it is cancelled is left where it hangs.
CANCEL_GRACE = 1.0


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
        transport_of: Callable[[str], Transport],
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
        self.lost: TasakError | None = None
        """Why the last of its calls whose outcome is unknown has no answer."""
        self.lost_at: float | None = None
        self.has_lost = False
        """Nothing has been heard since."""
        self.has_told_restart = False
        """Whether a caller has heard with an answer that the state of the session before it is gone."""
        self.has_told_pins = False
        """Whether a caller has heard which packages its command leaves open."""
        self.tools = ToolCache(clock)
        self.gate = asyncio.Semaphore(app.limits.parallel) if app.limits.parallel else None
        self.sign_in_needed: SignInNeeded | None = None
        """What keeps it from being opened, as long as that is the user."""
        self._transport = transport
        self._transport_of = transport_of
        self._host = host
        self._host.on_sign_in_needed = self._wait_for_sign_in
        self._has_tried_both_eras = False
        self._opening: asyncio.Timeout | None = None
        self._clock = clock
        self._on_answer = on_answer
        self._on_closed = on_closed
        self._checking: asyncio.Task[bool] | None = None
        self._stop = asyncio.Event()
        self._ready = unheard_future()
        self._owner = asyncio.create_task(self._own(), name=f"connection {self.id} to {app.name}")
        # Not in the task itself: one that is cancelled before its first step runs nothing at all.
        self._owner.add_done_callback(self._settle)

    @property
    def is_usable(self) -> bool:
        return self.state in (State.CONNECTING, State.READY) and not self.is_stopped and not self._is_spent

    @property
    def _is_spent(self) -> bool:
        """Its session takes no more calls, though the owner may not have noticed yet."""
        session = self.session
        return session is not None and (session.ended.is_set() or getattr(session, "is_outdated", False))

    @property
    def is_stopped(self) -> bool:
        """It was ended on purpose."""
        return self._stop.is_set()

    @property
    def transport(self) -> str:
        """The one that its peer speaks, which may be another than the app's."""
        return self._transport.name

    @property
    def era(self) -> Era | None:
        return self._host.era

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

    def last_words(self) -> Sequence[str]:
        """What the peer wrote on stderr lately, as far as the plugin tells."""
        try:
            return [str(line) for line in self.session.last_words()] if self.session else ()
        except BaseException as problem:  # in a loop, nobody else means to end it so
            self._host.log.exception("last words")
            self.blame(f"failed with {kind(problem)} in last_words")
            return ()

    async def ready(self) -> Session:
        """The session, once it is open. A caller that is cancelled does not cancel it for the others.

        Raises:
            NotExecuted: it could not be opened.
            SignInNeeded: not before the user has signed in.
        """
        if self.sign_in_needed:
            raise connect_failures.again(self.sign_in_needed)
        return await asyncio.shield(self._ready)

    async def ping(self) -> None:
        """Make a round trip to the peer."""
        await apart(self.blame, self._transport.ping, await self.ready())

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
            self._host.log.info("connection %s does not answer a ping: %s", self.id, kind(problem))
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

    def blame(self, deed: str) -> None:
        """Note what the transport's code did that it should not have."""
        self._transport.blame(f"{deed} for {self.app.name}")

    def note_answer(self) -> None:
        self.answered += 1
        self.has_lost = False
        self.succeeded_at = self._clock()
        self._on_answer(self)

    def note_loss(self, problem: OutcomeUnknown) -> None:
        """A call may have run, and has no answer: whoever looks at the machine later is to see that."""
        self.lost = problem
        self.has_lost = True
        self.lost_at = self._clock()
        # What the peer wrote last, below the first line, is in the app's own log.
        self._host.log.warning("%s", problem.message.partition("\n")[0])

    def stop(self) -> None:
        """Begin to close; calls that are under way lose their session."""
        if not self._stop.is_set():
            self._stop.set()
            if self.state is State.CONNECTING:
                self._owner.cancel()

    async def closed(self) -> None:
        """Wait until the owner has let go of everything, or is seen not to."""
        _, hanging = await asyncio.wait([self._owner], timeout=CLOSE_TIMEOUT + CANCEL_GRACE)
        if hanging:
            self._host.log.error("connection %s does not come to an end", self.id)
            self.blame("did not come to an end")

    async def _own(self) -> None:
        try:
            await self._serve(await self._connect())
        except (OutcomeUnknown, ServerError) as problem:
            self._fail(connect_failures.no_session(problem, self.app))
        except TasakError as problem:
            self._fail(problem)
        except asyncio.CancelledError:
            raise
        except BaseException as problem:
            self._host.log.exception("transport %s", self.transport)
            self.blame(f"failed with {kind(problem)}")
            self._fail(connect_failures.misbehaved(problem, self.app, self.transport))

    def _settle(self, _: "asyncio.Task[None]") -> None:
        if not self._ready.done():
            self._fail(connect_failures.closed_meanwhile(self.app))
        self.state = State.CLOSED
        self._on_closed(self)

    async def _connect(self) -> Session:
        attempts = self.app.limits.init_attempts
        for attempt in range(1, attempts + 1):
            try:
                return await self._attempt()
            except SignInNeeded as problem:
                raise (self.sign_in_needed or connect_failures.sign_in_needed(problem, self.app)) from None
            except NotExecuted as problem:
                # One that took all its time would take it again.
                if attempt == attempts or isinstance(problem, (ConnectTimedOut, BackingOff)):
                    raise connect_failures.described(problem, self.app, self._host.last_words()) from problem
                self._host.log.info("attempt %d of %d to connect: %s", attempt, attempts, problem.message)
        raise AssertionError("init_attempts is at least 1")

    async def _attempt(self) -> Session:
        """Open it. A peer that has to be spoken to in another way is opened afresh, which is no attempt of its own."""
        try:
            return await self._open_in_either_era()
        except SpeaksAnother as other:
            self._host.log.info("it speaks %s", other.transport)
            self._transport = self._transport_of(other.transport)
            return await self._open_in_either_era()

    async def _open_in_either_era(self) -> Session:
        try:
            return await self._open()
        except AnotherEra as problem:
            if self._has_tried_both_eras:
                raise problem.problem from None
            return await self._open_in_other_era(problem)

    async def _open_in_other_era(self, other: AnotherEra) -> Session:
        self._has_tried_both_eras = True
        self._host.era = other.era
        try:
            return await self._open()
        except (NotExecuted, AnotherEra):
            # Most likely it is no matter of eras at all.
            self._host.era = None
            raise other.problem from None

    async def _open(self) -> Session:
        seconds = self.app.limits.init_timeout
        # Letting go of a hung server takes seconds, for which its callers need not wait.
        early = asyncio.get_running_loop().call_later(seconds, self._give_up_early)
        try:
            async with asyncio.timeout(seconds) as deadline:
                self._opening = deadline
                session = await contained(self._transport.connect, self.app.config, self._host)
                return await checked(session, self._close)
        except TimeoutError:
            if not deadline.expired():  # the plugin's own
                raise
            raise self.sign_in_needed or self._timed_out() from None
        finally:
            early.cancel()
            self._opening = None

    def _give_up_early(self) -> None:
        if not self.sign_in_needed:
            self._fail(self._timed_out())

    def _wait_for_sign_in(self, problem: SignInNeeded) -> None:
        """Tell whoever waits, or comes meanwhile, that the user has to sign in first; and give the user time to."""
        if self._opening is None or self._ready.done():
            return
        self.sign_in_needed = connect_failures.sign_in_needed(problem, self.app)
        self._opening.reschedule(asyncio.get_running_loop().time() + SIGN_IN_TIMEOUT)
        told, self._ready = self._ready, unheard_future()
        told.set_exception(connect_failures.again(self.sign_in_needed))

    async def _serve(self, session: Session) -> None:
        try:
            if not self._ready.done():  # else its callers were told already that it took too long
                self.sign_in_needed = None
                self.state = State.READY
                self.used_at = self._clock()
                self._ready.set_result(session)
                await self._until_over(session)
        finally:
            self.state = State.CLOSING
            await self._close(session)

    async def _close(self, session: Session) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT) as deadline:
                await contained(self._transport.close, session)
        except TimeoutError:
            if not deadline.expired():  # the plugin's own
                raise
            self._host.log.exception("connection %s did not close within %g s", self.id, CLOSE_TIMEOUT)
            self.blame(f"did not close within {CLOSE_TIMEOUT:g} s")

    async def _until_over(self, session: Session) -> None:
        waits = [asyncio.ensure_future(self._stop.wait()), asyncio.ensure_future(session.ended.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self.is_stopped:
            self._host.log.info("connection %s has ended by itself", self.id)
        if not self.is_stopped and not self.answered:
            self.problem = connect_failures.ended_early(self.app, self.last_words())

    def _fail(self, problem: TasakError) -> None:
        if self.problem is None and not self.is_stopped:
            self._host.log.warning("not connected: %s", problem.message.partition("\n")[0])
        self.problem = self.problem or problem
        if not self._ready.done():
            self._ready.set_exception(problem)
        if self.state is State.CONNECTING:
            self.state = State.CLOSING

    def _timed_out(self) -> ConnectTimedOut:
        return connect_failures.timed_out(self.app, self._host.last_words())


def unheard_future() -> "asyncio.Future[Session]":
    """One whose failure is no news where nobody waits for it any more."""
    future: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
