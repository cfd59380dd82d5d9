"""What is told of a sign-in, how it ends, and that no secret leaves it."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import traceback
from typing import Any

import pytest
from starlette.responses import JSONResponse

from tasak.auth.sign_in import AppSignIn
from tasak.errors import BadConfig, SignInNeeded, TasakError
from tests.auth.authorization_server import AuthorizationServer, protected_server
from tests.auth.signing_in import Browser, Clock, kept, signed_in, status_of_call
from tests.http_client import http_client

HOUR = 3600


async def test_the_status_of_an_app_that_nobody_has_signed_in_to():
    nothing = {
        "signed_in": False,
        "issuer": None,
        "scopes": [],
        "expires_in": None,
        "can_refresh": False,
        "asked_for": [],
    }

    assert nothing == AppSignIn("app", "/nowhere").status("https://mcp.example/mcp", "oauth")


async def test_the_status_of_an_app_that_someone_has_signed_in_to(tmp_path):
    clock = Clock()
    async with protected_server(is_separate=True, required_scopes=["read"]) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
    clock.time += 600

    assert {
        "signed_in": True,
        "issuer": server.authority.issuer,
        "scopes": ["read"],
        "expires_in": HOUR - 600,
        "can_refresh": True,
        "asked_for": ["read"],
    } == sign_in.status(server.url, "oauth")


@pytest.mark.parametrize("can_refresh", [True, False])
async def test_a_token_that_has_run_out_is_a_sign_in_if_it_can_be_refreshed(tmp_path, can_refresh):
    clock = Clock()
    async with protected_server(AuthorizationServer(gives_refresh_tokens=can_refresh)) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
    clock.time += HOUR + 1

    status = sign_in.status(server.url, "oauth")
    assert (can_refresh, can_refresh, 0) == (status["signed_in"], status["can_refresh"], status["expires_in"])


@pytest.mark.parametrize("is_separate", [False, True])
async def test_logging_out_forgets_the_tokens_here_and_there(tmp_path, is_separate):
    async with protected_server(is_separate=is_separate) as server:
        sign_in = await signed_in(server, tmp_path)
        results = [await sign_in.logout(server.url, "oauth") for _ in range(2)]

        with pytest.raises(SignInNeeded, match="nobody is signed in"):
            await status_of_call(sign_in, server.url)
    assert [True, False] == results
    assert "" == kept(tmp_path)
    assert (1, {}) == (server.authority.asked["revoke"], server.authority.refresh)


async def test_logging_out_does_not_need_the_authorization_server(tmp_path):
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path)

    assert await sign_in.logout(server.url, "oauth")
    assert "" == kept(tmp_path)


async def test_logging_out_of_one_app_leaves_the_others(tmp_path):
    async with protected_server() as server:
        auth = {"type": "oauth", "client_metadata_url": "https://tasak.example/client.json"}
        sign_in = await signed_in(server, tmp_path)
        other = await signed_in(server, tmp_path, auth, app="other")
        await sign_in.logout(server.url, "oauth")

    assert other.status(server.url, auth)["signed_in"]


async def test_one_login_after_another_begins_anew(tmp_path):
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path)
        await sign_in.logout(server.url, "oauth")
        again = await signed_in(server, tmp_path)

        assert 200 == await status_of_call(again, server.url)
    assert 2 == server.authority.asked["register"]


@pytest.mark.parametrize("url", ["https://999.1.1.1/mcp", f"https://mcp.example/{'x' * 100_000}"])
async def test_a_url_that_is_none_is_said(tmp_path, url):
    with pytest.raises(BadConfig, match="is no URL"):
        AppSignIn("app", tmp_path).flow(url, "oauth", client=http_client)
    with pytest.raises(BadConfig, match="is no URL"):
        AppSignIn("app", tmp_path).status("https://mcp.example", {"type": "oauth", "issuer": url})


@pytest.mark.slow
def test_what_a_call_needs_loads_no_server():
    code = "import sys, tasak.auth.sign_in; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert "aiohttp" not in done.stdout.split()


# Secrets


@pytest.fixture
def log():
    """All that is logged, at the finest level, with tracebacks."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


async def failure_of(attempt) -> str:
    """All that an error shows, to whoever prints it with its causes."""
    with pytest.raises(TasakError) as failed:
        await attempt
    return f"{json.dumps(failed.value.as_json())}{''.join(traceback.format_exception(failed.value))}"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": "invalid_grant", "error_description": "CANARY"}),
        (200, {"access_token": None, "refresh_token": "CANARY"}),
        (200, {"access_token": "CANARY", "token_type": "mac"}),
        (200, {"access_token": ["CANARY"]}),
    ],
)
async def test_what_an_authorization_server_answers_is_no_place_for_a_secret_to_leave(tmp_path, log, status, body):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        (sent,) = server.authority.refresh
        (client,) = server.authority.clients.values()
        server.authority.trouble = quoting(status, body, sent, client.client_secret)
        shown = await failure_of(status_of_call(sign_in, server.url))
        server.authority.trouble = quoting(status, body, client.client_secret)
        shown += await failure_of(signed_in(server, tmp_path, now=clock))
    logged = log.getvalue() + repr(sign_in.status(server.url, "oauth"))

    assert [] == [secret for secret in (sent, client.client_secret) if secret in shown + logged]
    # The log has the URLs of these tests' own browser, with the code in them.
    assert server.authority.forms[-1]["code"] not in shown
    assert status == 400 or "CANARY" not in shown + logged


def quoting(status: int, body: dict[str, Any], *secrets: str) -> JSONResponse:
    """An answer that repeats what it was sent."""
    return JSONResponse(json.loads(json.dumps(body).replace("CANARY", " ".join(["CANARY", *secrets]))), status)


async def test_a_whole_life_of_a_sign_in_logs_no_secret(tmp_path, log):
    authority = AuthorizationServer()
    authority.register("by-hand", "canary-secret")
    clock = Clock()
    async with protected_server(authority, is_separate=True) as server:
        by_hand = {"type": "oauth", "client_id": "by-hand", "client_secret": "canary-secret"}
        auth = {**by_hand, "issuer": authority.issuer}
        browser = Browser()
        sign_in = AppSignIn("app", tmp_path, say=browser.say, now=clock)
        await sign_in.login(server.url, auth, client=http_client, opens_browser=False)
        await asyncio.gather(*browser.visits)
        clock.time += HOUR + 1
        tokens = [*authority.access, *authority.refresh]
        await status_of_call(sign_in, server.url, auth)
        status = sign_in.status(server.url, auth)
        text = kept(tmp_path)
        await sign_in.logout(server.url, auth)
    tokens += [*authority.access, *authority.refresh, "canary-secret"]

    assert [] == [token for token in tokens if token in log.getvalue() + repr(status) + "".join(browser.pages)]
    assert "canary-secret" not in text
