"""Where the browser comes back to after a sign-in: one page on this machine, for as long as the sign-in lasts."""

import asyncio
import html
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from mcp.shared.auth import AuthorizationCodeResult

from tasak.inert import one_line

HOST = "127.0.0.1"
PATH = "/callback"

# The browser has its page by then; what would be waited for is its next request.
CLOSE_TIMEOUT = 1.0

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

DONE = "TASAK has what it needs. You can close this page and go back to the terminal."
NOT_EXPECTED = "this is not the answer to the sign-in that is under way"


class Declined(Exception):
    """The authorization server's answer is an error; the text says which."""


class Callback:
    """Takes the answer of one sign-in, from the browser or from whoever pastes it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answer: asyncio.Future[AuthorizationCodeResult] = asyncio.get_running_loop().create_future()
        self._state: str | None = None

    @property
    def uri(self) -> str:
        return f"http://{HOST}:{self.port}{PATH}"

    def expect(self, authorization_url: str) -> None:
        """Take from now on the answer to this request. Any page and any program could send another one."""
        self._state = dict(parse_qsl(urlsplit(authorization_url).query)).get("state")

    def take(self, answer: Mapping[str, str]) -> str | None:
        """Settle the sign-in with the answer; or say why it is not the one."""
        state, code = answer.get("state"), answer.get("code")
        if self._state is None or state is None or not secrets.compare_digest(state.encode(), self._state.encode()):
            return NOT_EXPECTED
        if self.answer.done():
            return "this sign-in has had its answer"
        if "error" in answer:
            self.answer.set_exception(Declined(problem(answer)))
        elif code:
            self.answer.set_result(AuthorizationCodeResult(code=code, state=state, iss=answer.get("iss")))
        else:
            return "there is no code in it"
        return None

    def take_pasted(self, text: str) -> str | None:
        """As `take`, with the whole URL, as a browser shows it."""
        url = text.strip()
        if not url.startswith(f"{self.uri}?"):
            return f"that is not the URL that the browser was sent to: it begins with {self.uri}?"
        return self.take(dict(parse_qsl(urlsplit(url).query)))

    async def handle(self, request: web.Request) -> web.Response:
        # A name that a page has led to this address would be another one (DNS rebinding).
        if request.headers.get("Host") != f"{HOST}:{self.port}":
            return page("this address is for a sign-in on this machine", status=421)
        reason = self.take(request.query)
        if reason is not None:
            return page(reason, status=400)
        trouble = self.answer.exception()
        return page(DONE if trouble is None else f"The sign-in was refused: {trouble}")


@asynccontextmanager
async def listening(port: int | None) -> AsyncIterator[Callback]:
    """A callback at this port of 127.0.0.1, or at a free one.

    Raises:
        OSError: the port is taken.
    """
    # With this protocol asyncio knows it for TCP, and sends small answers at once.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        # The last sign-in may have been a moment ago.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port or 0))
        callback = Callback(listener.getsockname()[1])
        app = web.Application()
        app.router.add_get(PATH, callback.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            yield callback
        finally:
            await runner.cleanup()
            callback.answer.cancel()


def problem(answer: Mapping[str, str]) -> str:
    return one_line(": ".join(answer[name] for name in ("error", "error_description") if name in answer))


def page(text: str, status: int = 200) -> web.Response:
    body = f"<!doctype html><meta charset=utf-8><title>TASAK</title><p>{html.escape(text)}</p>"
    response = web.Response(text=body, content_type="text/html", status=status, headers=HEADERS)
    response.force_close()
    return response
