"""Callers' connections: how long one may be silent, how many there may be, and what who speaks no HTTP is told."""

import asyncio
import logging
import resource
import socket
from typing import Self

from aiohttp import web

from tasak.errors import BadRequest
from tasak.front_door import HEAD_TIMEOUT
from tasak.wire import BACKLOG

# After the answers are out, how long their connections may linger.
CLOSING_TIMEOUT = 1.0

# Who was answered in the middle of their body may send so much longer: a connection that closes under them takes the
# answer along.
LINGERING_TIME = 2.0

log = logging.getLogger(__name__)


class Entrance:
    """A door that is open: `app` behind the listening socket."""

    def __init__(self, runner: web.AppRunner, listener: asyncio.Server) -> None:
        self._runner = runner
        self._listener = listener

    @classmethod
    async def open(cls, app: web.Application, listening: socket.socket, *, share: float) -> Self:
        """`share` is the part of our descriptors that its callers may have."""
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=CLOSING_TIMEOUT)
        await runner.setup()
        assert runner.server is not None
        callers = Callers(runner.server, most=int(descriptors() * share))
        loop = asyncio.get_running_loop()
        return cls(runner, await loop.create_server(callers, sock=listening, backlog=BACKLOG))

    async def close(self) -> None:
        self._listener.close()
        await self._runner.cleanup()


def descriptors() -> int:
    """How many of them this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else soft


class Callers:
    """Makes the connections of one door, `most` at once: when it is full, who has been silent longest makes room."""

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most
        self._silent: dict[Caller, None] = {}
        self._busy: set[Caller] = set()

    def __call__(self) -> asyncio.Protocol:
        if len(self._silent) + len(self._busy) >= self._most:
            if not self._silent:
                return Refused()
            next(iter(self._silent)).force_close()
        return Caller(self, self._server)

    def came(self, caller: "Caller") -> None:
        self._silent[caller] = None

    def left(self, caller: "Caller") -> None:
        self._silent.pop(caller, None)
        self._busy.discard(caller)

    def asked(self, caller: "Caller") -> None:
        self._silent.pop(caller, None)
        self._busy.add(caller)

    def answered(self, caller: "Caller") -> None:
        if caller in self._busy:
            self._busy.discard(caller)
            self.came(caller)


class Caller(web.RequestHandler):
    """One connection; `with` it while a request is being answered."""

    __slots__ = ("_callers",)

    def __init__(self, callers: Callers, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=HEAD_TIMEOUT,
            lingering_time=LINGERING_TIME,
            tcp_keepalive=False,  # nobody may be silent for so long
            access_log=None,  # type: ignore[arg-type]  # as AppRunner has it
            auto_decompress=False,
        )
        self._callers = callers

    def __enter__(self) -> None:
        self._callers.asked(self)

    def __exit__(self, *_: object) -> None:
        self._callers.answered(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._callers.came(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._callers.left(self)
        super().connection_lost(exc)

    def force_close(self) -> None:
        self._callers.left(self)
        super().force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP is told so in our own words: aiohttp's would repeat it, here and in the log."""
        if status != BadRequest.http_status:
            return super().handle_error(request, status, exc, message)
        log.info("a caller speaks no HTTP: %s", type(exc).__name__)
        response = web.json_response(BadRequest("this is no HTTP request that we take").as_json(), status=status)
        response.force_close()
        return response


class Refused(asyncio.Protocol):
    """One caller too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
