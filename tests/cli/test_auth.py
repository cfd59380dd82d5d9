"""Signing in at the shell: `tasak auth …`, and what calls say before and after."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from tasak.testing import HttpServer
from tests.auth.authorization_server import AuthorizationServer, ProtectedServer, protected_server
from tests.shell import FAST_APP, Done, Shell

pytestmark = pytest.mark.slow

BROWSER = """#!{python}
import sys, urllib.request
open({opened!r}, "a").write(sys.argv[1] + "\\n")
urllib.request.urlopen(sys.argv[1]).read()
"""


class User:
    """Someone at a shell with a browser, and an app whose server wants to know who asks."""

    def __init__(self, shell: Shell, server: ProtectedServer) -> None:
        self.shell = shell
        self.server = server
        self._opened = shell.home / "opened"
        browser = shell.home / "browser"
        browser.write_text(BROWSER.format(python=sys.executable, opened=str(self._opened)))
        browser.chmod(0o700)
        shell.env["BROWSER"] = f"{browser} %s"
        shell.configure({"notes": {"url": server.url, "auth": "oauth"}, "fast": FAST_APP})

    async def __call__(self, *words: str, **how: str) -> Done:
        """Run the command; the server is in our loop."""
        return await asyncio.to_thread(self.shell, *words, **how)

    @property
    def has_opened(self) -> bool:
        return self._opened.exists()


@pytest.fixture
async def user() -> AsyncIterator[User]:
    async with protected_server(AuthorizationServer()) as server:
        stack = ExitStack()
        try:
            yield User(stack.enter_context(Shell()), server)
        finally:
            await asyncio.to_thread(stack.close)


@pytest.mark.parametrize("road", [(), ("--no-daemon",)])
async def test_a_call_before_the_sign_in_says_so_and_opens_no_browser(user, road):
    refused = await user(*road, "notes", "rights")

    assert (3, "") == (refused.returncode, refused.stdout)
    assert "tasak auth login notes" in refused.stderr
    assert not user.has_opened


async def test_after_signing_in_calls_are_served(user):
    await user("notes", "rights")

    login = await user("auth", "login", "notes")

    assert (0, "notes: signed in\n") == (login.returncode, login.stdout), login.stderr
    assert user.has_opened
    first = await user("notes", "rights")
    assert 0 == first.returncode, first.stderr
    assert 0 == (await user("--no-daemon", "notes", "rights")).returncode


async def test_a_sign_in_is_kept_when_the_daemon_is_started_anew(user):
    await user("auth", "login", "notes")
    await user("notes", "rights")

    await user("daemon", "restart")

    assert 0 == (await user("notes", "rights")).returncode


async def test_where_the_user_is_signed_in_is_shown_without_a_secret(user):
    before = await user("auth", "status")

    await user("auth", "login", "notes")

    after = await user("auth", "status")
    assert ["notes", "no"] == before.stdout.split("\t")[:2]
    assert ["notes", "yes"] == after.stdout.split("\t")[:2]
    assert user.server.url.rpartition("/")[0] in after.stdout
    tokens = (user.shell.home / ".tasak" / "auth").glob("*.json")
    assert all("token" in file.read_text() for file in tokens)
    assert "access_token" not in after.stdout


async def test_after_signing_out_calls_ask_for_a_sign_in_again(user):
    await user("auth", "login", "notes")
    await user("notes", "rights")

    logout = await user("auth", "logout", "notes")

    assert "notes: signed out\n" == logout.stdout
    assert 3 == (await user("notes", "rights")).returncode
    assert "notes: nobody was signed in\n" == (await user("auth", "logout", "notes")).stdout


async def test_without_a_browser_the_address_is_shown_and_the_callback_taken_from_stdin(user):
    process = user.shell.start("auth", "login", "notes", "--no-browser", stdin=-1)
    assert process.stderr is not None
    said = b""
    while b"http" not in said:
        said = await asyncio.to_thread(process.stderr.readline)
        assert said, "it ended without an address"
    address = said.decode().split()[-1]

    callback = await asyncio.to_thread(follow, address)
    out, _ = await asyncio.to_thread(process.communicate, callback.encode() + b"\n")

    assert (0, b"notes: signed in\n") == (process.returncode, out)
    assert not user.has_opened


async def test_where_no_app_has_a_sign_in_that_is_said(user):
    user.shell.configure({"fast": FAST_APP})

    status = await user("auth", "status")

    assert (0, "") == (status.returncode, status.stdout)
    assert "tasak: no app that is configured here has a sign-in\n" == status.stderr


async def test_where_a_file_is_broken_its_apps_are_not_passed_over_in_silence(user):
    user.shell.configure({"fast": FAST_APP}).write_text("apps: [")

    status = await user("auth", "status")

    assert (0, "") == (status.returncode, status.stdout)
    assert status.stderr.startswith(f"tasak: {user.shell.home}/.tasak/tasak.yaml: line 2")


async def test_an_app_without_a_sign_in_says_so_and_loses_nothing(user):
    await user("fast", "counter")

    refused = await user("auth", "login", "fast")

    assert 2 == refused.returncode
    assert "its transport, stdio, has no sign-in of its own" in refused.stderr
    assert "2\n" == (await user("fast", "counter")).stdout, "its session was ended"


async def test_other_apps_are_not_affected(user):
    assert "hello\n" == (await user("fast", "echo", "--text", "hello")).stdout


async def test_a_sign_in_that_comes_to_nothing_ends_no_session(user):
    async with HttpServer(eras=("handshake",)) as server:
        user.shell.configure({"plain": {"url": server.url}})
        await user("plain", "counter")

        refused = await user("auth", "login", "plain")

        assert 2 == refused.returncode
        assert "tasak: the config of plain has no `auth:`\n  write `auth: oauth`\n" == refused.stderr
        assert "2\n" == (await user("plain", "counter")).stdout, "its session was ended"


async def test_a_session_of_before_ends_with_the_sign_in(user):
    await user("auth", "login", "notes")
    await user("notes", "rights")

    await user("auth", "login", "notes")

    assert "" == (await user("connections")).stdout


def follow(address: str) -> str:
    """Where the authorization server leads to, which is our own callback: not opened."""
    import http.client
    from urllib.parse import urlsplit

    while True:
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        connection.request("GET", f"{parts.path}?{parts.query}")
        address = connection.getresponse().headers["Location"]
        connection.close()
        if "code=" in address:
            return address
