"""The pool: which connection serves a call, and when one goes.

Plain functions decide and change the pool; only then does anyone wait. No lock is held across I/O, so a slow app never
delays another.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from tasak.core.app import App
from tasak.core.clock import Clock, since_boot
from tasak.core.connection import Connection, State
from tasak.core.host import AppHost
from tasak.errors import BackingOff, Draining, NotExecuted, TasakError, UnknownConnection
from tasak.plugin import Era, Session
from tasak.request import Mark
from tasak.transports.registry import Registry

# How late an expired connection may go.
CLEANUP_INTERVAL = 1.0

# Between failed connects: the first repeat is free, then doubling.
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 30.0

# Who fixes what an app got from its caller's environment gives it another fingerprint: the failure of the old one is no
# news for ever.
FAILURE_KEPT = 3600.0

# How many lost sessions, failing apps and peers the pool remembers; only a config made by a program has more.
MEMORY = 1024

Key = TypeVar("Key")
Kept = TypeVar("Kept")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """A connection in use, and what the caller must know of its state."""

    connection: Connection
    session: Session
    mark: Mark


@dataclass(frozen=True, slots=True)
class Failure:
    """How an app failed to connect: `count` times in a row, last with `problem`; not tried again before `until`."""

    app: App
    count: int
    until: float
    problem: TasakError


@dataclass(frozen=True, slots=True)
class Manner:
    """How a peer was found to be spoken to: what is tried first next time."""

    transport: str
    era: Era | None


class ConnectionManager:
    """All connections of this process, by fingerprint."""

    def __init__(
        self,
        registry: Registry,
        host_of: Callable[[App, Callable[[], None]], AppHost],
        *,
        max_connections: Callable[[], int],
        clock: Clock = since_boot,
    ) -> None:
        self._registry = registry
        self._host_of = host_of
        self._max_connections = max_connections
        self._clock = clock
        self._live: dict[str, Connection] = {}
        self._leaving: set[Connection] = set()
        self._lost: OrderedDict[str, None] = OrderedDict()
        self._failures: OrderedDict[str, Failure] = OrderedDict()
        self._manners: OrderedDict[str, Manner] = OrderedDict()
        self._is_draining = False
        self._cleanup: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[Connection]:
        return iter([*self._live.values(), *self._leaving])

    @property
    def failures(self) -> list[Failure]:
        return list(self._failures.values())

    def find(self, app: App) -> Connection | None:
        """The connection that a call of `app` would use now, without opening one."""
        return self._live.get(app.fingerprint)

    def of_id(self, connection_id: str) -> Connection:
        """
        Raises:
            UnknownConnection: there is none of that id.
        """
        for connection in self:
            if connection.id == connection_id:
                return connection
        raise UnknownConnection(f"there is no connection {connection_id!r}", fix="`tasak connections` lists them")

    @asynccontextmanager
    async def lease(self, app: App) -> AsyncIterator[Lease]:
        """A connection for the time of one call; what is leased is not evicted.

        Raises:
            NotExecuted: there is none to be had.
        """
        connection, mark = self._choose(app)
        if connection.has_rested(self._clock()):
            await self._retire_if_dead(connection)
            connection, mark = self._choose(app)
        connection.enter()
        try:
            yield Lease(connection, await connection.ready(), mark)
        finally:
            self._leave(connection)

    def start_cleanup(self) -> None:
        self._cleanup = asyncio.create_task(self._clean_for_ever(), name="cleanup of connections")

    def sweep(self) -> None:
        """Let every expired connection go, and forget failures that are old."""
        now = self._clock()
        for connection in list(self._live.values()):
            if connection.has_expired(now):
                log.info("%s: connection %s has expired", connection.app.name, connection.id)
                self._retire(connection)
        for key, failure in list(self._failures.items()):
            if now - failure.until >= FAILURE_KEPT:
                del self._failures[key]

    async def close(self, connection: Connection) -> None:
        """End one connection now; calls that it serves lose it."""
        self._retire(connection)
        connection.stop()
        await connection.closed()

    async def shut_down(self) -> None:
        """End them all, side by side; returns when each has let go of its processes."""
        self._is_draining = True
        if self._cleanup:
            self._cleanup.cancel()
            await asyncio.wait([self._cleanup])
        everyone = list(self)
        for connection in everyone:
            connection.stop()
        await asyncio.gather(*(connection.closed() for connection in everyone))

    def _leave(self, connection: Connection) -> None:
        connection.leave()
        if connection is not self._live.get(connection.app.fingerprint) and connection.is_idle:
            connection.stop()

    async def _retire_if_dead(self, connection: Connection) -> None:
        """After a long rest, see whether it may serve a call."""
        connection.enter()
        try:
            if not await connection.is_alive():
                self._retire(connection)
        finally:
            self._leave(connection)

    def _choose(self, app: App) -> tuple[Connection, Mark]:
        if self._is_draining:
            raise Draining("the daemon is stopping")
        found = self._live.get(app.fingerprint)
        if found and found.is_usable:
            return found, mark_of(found)
        self._check_backoff(app)
        had_older = self._drain_older(app)
        had_session = found is not None and found.session is not None
        is_restart = had_older or had_session or app.fingerprint in self._lost
        if found:
            self._retire(found)
        self._make_room()
        opened = self._open(app, is_restart)
        return opened, mark_of(opened)

    def _open(self, app: App, is_restart: bool) -> Connection:
        manner = self._manners.get(app.fingerprint, Manner(app.transport, None))
        transport = self._registry.transport(manner.transport)
        host = self._host_of(app, lambda: connection.tools.forget())
        host.era = manner.era
        connection = Connection(
            app,
            transport,
            host,
            transport_of=self._registry.transport,
            clock=self._clock,
            is_restart=is_restart,
            on_answer=self._note_answer,
            on_closed=self._note_closed,
        )
        self._live[app.fingerprint] = connection
        return connection

    def _drain_older(self, app: App) -> bool:
        """Retire what an earlier text of this app's definition opened; another caller's values may stay.

        Returns whether that was a session.
        """
        older = [
            connection
            for connection in self._live.values()
            if connection.app.name == app.name
            and connection.app.file == app.file
            and connection.app.session == app.session
            and connection.app.definition != app.definition
        ]
        for connection in older:
            self._retire(connection)
        return any(connection.session for connection in older)

    def _make_room(self) -> None:
        idle = sorted((each for each in self._live.values() if each.is_idle), key=lambda each: each.used_at)
        excess = len(self._live) + 1 - self._max_connections()
        for connection in idle[: max(0, excess)]:
            log.info("%s: connection %s makes room", connection.app.name, connection.id)
            self._retire(connection)

    def _retire(self, connection: Connection) -> None:
        """Take it out of use; it closes as soon as nobody uses it."""
        if self._live.get(connection.app.fingerprint) is connection:
            del self._live[connection.app.fingerprint]
            self._leaving.add(connection)
        self._note_lost(connection)
        if connection.is_idle:
            connection.stop()

    def _note_answer(self, connection: Connection) -> None:
        key = connection.app.fingerprint
        self._failures.pop(key, None)
        if connection.answered == 1:
            remember(self._manners, key, Manner(connection.transport, connection.era))

    def _note_closed(self, connection: Connection) -> None:
        key = connection.app.fingerprint
        self._leaving.discard(connection)
        if self._live.get(key) is connection:
            del self._live[key]
        self._note_lost(connection)
        has_failed = not connection.answered and not connection.is_stopped
        if has_failed:
            self._manners.pop(key, None)
        if has_failed and isinstance(connection.problem, NotExecuted):
            self._note_failure(connection.app, connection.problem)

    def _note_lost(self, connection: Connection) -> None:
        """Whoever comes next is told that its state is gone, if there was any."""
        if connection.session is not None:
            remember(self._lost, connection.app.fingerprint, None)

    def _note_failure(self, app: App, problem: TasakError) -> None:
        count = self._failures[app.fingerprint].count + 1 if app.fingerprint in self._failures else 1
        wait = 0.0 if count == 1 else min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (count - 2))
        remember(self._failures, app.fingerprint, Failure(app, count, self._clock() + wait, problem))

    def _check_backoff(self, app: App) -> None:
        failure = self._failures.get(app.fingerprint)
        if failure and (wait := failure.until - self._clock()) > 0:
            raise BackingOff(
                f"{failure.problem.message}\n(failed {failure.count} times in a row; tried again in {wait:.1f} s)",
                fix=failure.problem.fix,
            )

    async def _clean_for_ever(self) -> None:
        while True:
            await asyncio.sleep(CLEANUP_INTERVAL)
            self.sweep()


def mark_of(connection: Connection) -> Mark:
    if connection.is_restart and not connection.has_told_restart:
        return "restarted"
    return "warm" if connection.state is State.READY else "new"


def remember(memory: OrderedDict[Key, Kept], key: Key, kept: Kept) -> None:
    """Keep it as the newest, and forget the oldest where that is too much."""
    memory[key] = kept
    memory.move_to_end(key)
    if len(memory) > MEMORY:
        memory.popitem(last=False)
