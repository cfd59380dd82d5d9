"""A port of 127.0.0.1 where an application is served, cut off, and served again."""

import socket

from aiohttp import web

from tasak.testing.accepting import stop_accepting

# What is left of a server whose connections are gone goes at once.
SHUTDOWN_TIMEOUT = 2.0


class Listener:
    """The port is ours from the beginning to `close`, served or not."""

    def __init__(self) -> None:
        self._place = bound(0)
        self.port: int = self._place.getsockname()[1]
        self._runner: web.AppRunner | None = None
        self._listening: socket.socket | None = None

    async def serve(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
        await self._runner.setup()
        self._listening = bound(self.port)
        await web.SockSite(self._runner, self._listening).start()

    async def cut(self) -> None:
        """Break every connection, and listen no more."""
        runner, self._runner = self._runner, None
        if runner is None or self._listening is None:
            return
        abort_connections(runner)
        await stop_accepting([self._listening])
        abort_connections(runner)
        await runner.cleanup()

    def close(self) -> None:
        self._place.close()


def abort_connections(runner: web.AppRunner) -> None:
    assert runner.server is not None
    for connection in runner.server.connections:
        if connection.transport is not None:
            connection.transport.abort()


def bound(port: int) -> socket.socket:
    """A socket bound to 127.0.0.1, which others of ours may share the port with."""
    # The protocol is said outright: asyncio turns Nagle's delay off only where it is.
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind(("127.0.0.1", port))
    return place
