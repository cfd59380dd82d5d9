"""The user's way to an authorization server and back.

The browser is this machine's, which comes back by itself, or one somewhere else, whose last URL is then pasted.
"""

import asyncio
import threading
import webbrowser
from contextlib import suppress

import httpx2
from mcp.shared.auth import AuthorizationCodeResult

from tasak.auth.account import Account
from tasak.auth.callback import Callback
from tasak.auth.user import Ask, User
from tasak.inert import inert


class Visit:
    """One sign-in, as its user sees it."""

    def __init__(self, account: Account, callback: Callback, user: User) -> None:
        self._account = account
        self._callback = callback
        self._user = user

    @property
    def redirect_uri(self) -> str:
        return self._callback.uri

    async def send_off(self, url: str) -> None:
        """Show the way; the callback listens already."""
        await self._account.reach.check(httpx2.URL(url))
        self._callback.expect(url)
        self._user.say(f"to sign in to {self._account.app}, open this page:\n{inert(url)}")
        if self._user.opens_browser:
            open_browser(url)
        elif self._user.ask is not None:
            self._user.say("if the browser is on another machine, paste the URL that it ends at:")

    async def answer(self) -> AuthorizationCodeResult:
        """What the browser brought back, or what was pasted: whichever came first."""
        if self._user.opens_browser or self._user.ask is None:
            return await self._callback.answer
        pasting = asyncio.create_task(self._take_pasted(self._user.ask), name="pasted callback")
        try:
            return await self._callback.answer
        finally:
            pasting.cancel()
            await asyncio.wait([pasting])

    async def _take_pasted(self, ask: Ask) -> None:
        while text := await when_asked(ask):
            reason = self._callback.take_pasted(text)
            if reason is None:
                return
            self._user.say(reason)


def when_asked(ask: Ask) -> asyncio.Future[str]:
    """What the user enters; "" when nothing more will come. The thread that waits for it outlasts whoever gives up."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def settle(text: str) -> None:
        if not answer.done():
            answer.set_result(text)

    def wait() -> None:
        try:
            text = ask()
        except (OSError, EOFError, ValueError):
            text = ""
        with suppress(RuntimeError):  # the sign-in is over, and its loop with it
            loop.call_soon_threadsafe(settle, text)

    threading.Thread(target=wait, name="pasted callback", daemon=True).start()
    return answer


def open_browser(url: str) -> None:
    """Nobody waits for it: a browser in the foreground ends when its window is closed."""
    threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
