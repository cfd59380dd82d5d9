"""What the tests of signing in share: a user with a browser, and an app that calls its server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tasak.auth.sign_in import AppSignIn
from tests.auth.authorization_server import ProtectedServer
from tests.http_client import http_client

PATIENCE = 20.0

ACCEPT = {"Accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


@dataclass
class Clock:
    """A wall clock that the test sets."""

    time: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Browser:
    """A user who opens the page that is said, signs in, and is led back."""

    said: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    """What they saw in the end."""
    visits: list[asyncio.Task[None]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)
        if "http" in text:
            self.visits.append(asyncio.create_task(self.visit(text.splitlines()[-1])))

    async def visit(self, url: str) -> None:
        async with http_client(follow_redirects=True) as client:
            self.pages.append((await client.get(url)).text)


@contextlib.asynccontextmanager
async def calling(sign_in: AppSignIn, url: str, auth: Any = "oauth") -> AsyncIterator[Callable[[], Any]]:
    """An app's connection: a function that makes a request and returns the response."""
    flow = sign_in.flow(url, auth, client=http_client)
    async with http_client(auth=flow) as client:

        async def call() -> httpx2.Response:
            return await client.post(url, json=INITIALIZE, headers=ACCEPT)

        async with asyncio.timeout(PATIENCE):
            yield call


async def status_of_call(sign_in: AppSignIn, url: str, auth: Any = "oauth") -> int:
    async with calling(sign_in, url, auth) as call:
        response = await call()
    return response.status_code


def kept(folder: Path) -> str:
    """All that is kept of sign-ins, as text."""
    return "".join(file.read_text() for file in sorted(folder.glob("*.json")))


async def signed_in(
    server: ProtectedServer, folder: Path, auth: Any = "oauth", *, app: str = "app", url: str | None = None, **more: Any
) -> AppSignIn:
    """The sign-in of an app whose user has just signed in."""
    browser = Browser()
    sign_in = AppSignIn(app, folder, say=browser.say, **more)
    async with asyncio.timeout(PATIENCE):
        await sign_in.login(url or server.url, auth, client=http_client, opens_browser=False)
        await asyncio.gather(*browser.visits)
    return sign_in
