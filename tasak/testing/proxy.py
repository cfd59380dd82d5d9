"""A proxy that spoils what passes through it, at exact bytes: delays, stalls, cuts, corruption."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tasak.testing.accepting import stop_accepting

PIECE = 64 * 1024

# How often a second a slow direction lets a piece through.
PIECES_A_SECOND = 20

# A socket with this option closes with RST, and forgets what it has not sent.
LINGER_ZERO = struct.pack("ii", 1, 0)

Address = tuple[str, int] | Path
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What becomes of the bytes of one direction. An offset counts its bytes from the beginning of the connection."""

    delay: float = 0.0
    """Seconds that each piece is held."""
    bandwidth: float | None = None
    """Bytes a second."""
    corrupt: int | None = None
    """The byte at this offset arrives with all its bits turned over."""
    stall_after: int | None = None
    """So many bytes pass; then nothing does, and nothing is closed."""
    cut_after: int | None = None
    """As soon as so many bytes have passed, both ends lose the connection. 0 is at once."""
    half_close_after: int | None = None
    """As soon as so many bytes have passed, this direction ends; the other goes on."""

    @property
    def end(self) -> int | None:
        """How many bytes pass at the most."""
        ends = [each for each in (self.stall_after, self.cut_after, self.half_close_after) if each is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to one connection. `up` is from the client to the server."""

    up: Way = field(default_factory=Way)
    down: Way = field(default_factory=Way)
    close_before_reply: bool = False
    """Both ends lose the connection when the first byte of the reply is about to pass."""
    rst: bool = False
    """A cut is a reset, not an end: reading fails, and what is under way may be lost."""


PLAIN = Plan()


class Lane:
    """One direction of one connection."""

    def __init__(self, way: Way) -> None:
        self.passed = 0
        """How many bytes have passed so far."""
        self._way = way

    async def run(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_cut_short: bool) -> None:
        """Pass on what comes until it ends, or the plan does.

        Raises:
            Cut: the plan ends the connection.
        """
        while self._way.end != self.passed and (piece := await source.read(self._room)):
            if is_cut_short:
                raise Cut
            await self._send(piece, sink)
        await self._finish(sink)

    @property
    def _room(self) -> int:
        slow = PIECE if self._way.bandwidth is None else max(1, int(self._way.bandwidth / PIECES_A_SECOND))
        return min(PIECE, slow) if self._way.end is None else min(PIECE, slow, self._way.end - self.passed)

    async def _send(self, piece: bytes, sink: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._way.delay + (len(piece) / self._way.bandwidth if self._way.bandwidth else 0))
        sink.write(self._spoiled(piece))
        await sink.drain()
        self.passed += len(piece)

    def _spoiled(self, piece: bytes) -> bytes:
        at = -1 if self._way.corrupt is None else self._way.corrupt - self.passed
        return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :] if 0 <= at < len(piece) else piece

    async def _finish(self, sink: asyncio.StreamWriter) -> None:
        if self._way.cut_after == self.passed:
            raise Cut
        if self._way.stall_after == self.passed:
            await asyncio.Event().wait()  # only the end of the connection is the end of this
        with contextlib.suppress(OSError, RuntimeError):  # it has ended already
            sink.write_eof()


class Cut(Exception):
    """The plan ends the connection here."""


class Passage:
    """One connection; `up.passed` and `down.passed` count its bytes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.up = Lane(plan.up)
        self.down = Lane(plan.down)

    async def run(self, client: Streams, server: Streams) -> None:
        """Pass on both directions until both have ended, or one of them fails."""
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self.up.run(client[0], server[1], is_cut_short=False))
            lanes.create_task(self.down.run(server[0], client[1], is_cut_short=self.plan.close_before_reply))


class FaultProxy:
    """Stands before `target`, a (host, port) or the path of a Unix socket; `async with` opens and closes it.

    It listens on a free port of 127.0.0.1 (`proxy.port`), or at the path `listen`. Each connection takes the next of
    `plans`, which a test may add to at any time; when there is none left, it is passed on as it is.
    """

    def __init__(self, target: Address, plans: Iterable[Plan] = (), *, listen: Path | None = None) -> None:
        self.plans = list(plans)
        self.passages: list[Passage] = []
        """Every connection so far, oldest first."""
        self.port = 0
        self._target = target
        self._listen = listen
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._listen is not None:
            self._server = await asyncio.start_unix_server(self._accept, self._listen)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await stop_accepting(self._server.sockets)
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """End every connection that is open now."""
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passage = Passage(self.plans.pop(0) if self.plans else PLAIN)
        self.passages.append(passage)
        connection = asyncio.create_task(self._pass_on((reader, writer), passage), name="fault proxy")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _pass_on(self, client: Streams, passage: Passage) -> None:
        ends = [client[1]]
        is_reset = False
        try:
            server = await self._connect()
            ends.append(server[1])
            await passage.run(client, server)
        except OSError:
            pass  # the target is not there
        except ExceptionGroup as problems:  # an end is lost, or the plan cuts it
            is_reset = passage.plan.rst and problems.subgroup(Cut) is not None
        finally:
            for end in ends:
                (reset if is_reset else asyncio.StreamWriter.close)(end)

    async def _connect(self) -> Streams:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)


def reset(end: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    end.transport.abort()
