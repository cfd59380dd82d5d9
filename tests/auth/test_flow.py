"""The tokens of an app's requests: put on, refreshed once for everyone, and sent nowhere else."""

import asyncio
import json
import sys

import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from tasak.auth.sign_in import AppSignIn
from tasak.errors import NotExecuted, SignInNeeded
from tests.auth.authorization_server import AuthorizationServer, bound, origin_of, protected_server, serving
from tests.auth.signing_in import ACCEPT, INITIALIZE, PATIENCE, Clock, calling, signed_in, status_of_call
from tests.http_client import http_client

HOUR = 3600.0


async def test_the_sdk_s_client_works_with_it(tmp_path):
    async with protected_server(is_separate=True, required_scopes=["read"]) as server:
        sign_in = await signed_in(server, tmp_path)
        flow = sign_in.flow(server.url, "oauth", client=http_client)
        async with (
            http_client(auth=flow) as http,
            Client(streamable_http_client(server.url, http_client=http)) as client,
        ):
            result = await client.call_tool("rights", {})

    assert "read" == result.content[0].text


async def test_a_call_that_nobody_has_signed_in_for_says_what_to_do_and_asks_nobody(tmp_path):
    async with protected_server(is_separate=True) as server:
        with pytest.raises(SignInNeeded, match="nobody is signed in") as refused:
            await status_of_call(AppSignIn("app", tmp_path / "auth"), server.url)

    assert "tasak auth login app" == refused.value.fix
    assert ({}, []) == (dict(server.authority.asked), server.tokens)
    assert not (tmp_path / "auth").exists()


# Refresh


@pytest.mark.parametrize("is_separate", [False, True])
async def test_after_a_restart_a_token_that_has_run_out_is_refreshed(tmp_path, is_separate):
    clock = Clock()
    async with protected_server(is_separate=is_separate) as server:
        await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1

        statuses = [await status_of_call(AppSignIn("app", tmp_path, now=clock), server.url) for _ in range(2)]

    assert [200, 200] == statuses
    assert (1, 1) == (server.authority.asked["authorize"], server.authority.asked["refresh_token"])


async def test_a_token_is_refreshed_shortly_before_its_end(tmp_path):
    clock = Clock()
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        async with calling(sign_in, server.url) as call:
            clock.time += HOUR - 40
            await call()
            before = server.authority.asked["refresh_token"]
            clock.time += 20
            await call()

    assert (0, 1) == (before, server.authority.asked["refresh_token"])


async def test_a_clock_that_was_set_back_gives_a_token_no_longer_life(tmp_path):
    clock = Clock()
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time -= 10 * HOUR

    assert HOUR == sign_in.status(server.url, "oauth")["expires_in"]


async def test_a_token_that_the_server_takes_no_longer_is_refreshed_and_the_request_sent_once_more(tmp_path):
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path)
        server.authority.expire()
        server.tokens.clear()

        assert 200 == await status_of_call(sign_in, server.url)
    assert 2 == len(server.tokens)
    assert 1 == server.authority.asked["refresh_token"]


async def test_the_refresh_is_for_the_same_server_and_by_the_same_client(tmp_path):
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path)
        server.authority.expire()
        await status_of_call(sign_in, server.url)

    (client_id,) = server.authority.clients
    assert (client_id, server.url) == tuple(server.authority.forms[-1][name] for name in ("client_id", "resource"))


@pytest.mark.slow
async def test_fifty_callers_with_a_token_that_has_run_out_share_one_refresh(tmp_path):
    clock = Clock()
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        async with calling(sign_in, server.url) as call:
            responses = await asyncio.gather(*(call() for _ in range(50)))

    assert {200} == {response.status_code for response in responses}
    assert 1 == server.authority.asked["refresh_token"]


@pytest.mark.slow
async def test_fifty_callers_whose_token_is_refused_share_one_refresh(tmp_path):
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path)
        server.authority.expire()
        async with calling(sign_in, server.url) as call:
            responses = await asyncio.gather(*(call() for _ in range(50)))

    assert {200} == {response.status_code for response in responses}
    assert 1 == server.authority.asked["refresh_token"]


async def test_several_connections_of_one_process_share_one_refresh_too(tmp_path):
    clock = Clock()
    async with protected_server() as server:
        await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        connections = [AppSignIn("app", tmp_path, now=clock) for _ in range(5)]
        statuses = await asyncio.gather(*(status_of_call(each, server.url) for each in connections))

    assert {200} == set(statuses)
    assert 1 == server.authority.asked["refresh_token"]


# It says when it is about to call, and calls when it is told to; what it prints is the status.
CALLER = """
import asyncio, sys
from pathlib import Path
import httpx2
from tasak.auth.sign_in import AppSignIn
from tests.auth.signing_in import Clock, status_of_call
url, folder, now = sys.argv[1:]
sign_in = AppSignIn("app", Path(folder), now=Clock(float(now)))
print("ready", flush=True)
sys.stdin.readline()
print(asyncio.run(status_of_call(sign_in, url)), flush=True)
"""


@pytest.mark.slow
async def test_two_processes_that_find_a_token_run_out_share_one_refresh(tmp_path, request):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        server.authority.gate.clear()
        server.authority.reached.clear()
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", CALLER, server.url, str(tmp_path), str(clock.time)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=request.config.rootpath,
            )
            for _ in range(2)
        ]
        async with asyncio.timeout(PATIENCE):
            assert [b"ready\n"] * 2 == [await process.stdout.readline() for process in processes]
            for process in processes:
                process.stdin.write(b"go\n")
            # One is at the token endpoint now, and holds the lock; the other one waits for it, or will.
            await server.authority.reached.wait()
            server.authority.gate.set()
            outputs = [(await process.communicate())[0] for process in processes]

    assert [b"200\n", b"200\n"] == outputs
    assert 1 == server.authority.asked["refresh_token"]


async def test_a_caller_who_goes_away_does_not_take_the_refresh_token_along(tmp_path):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        server.authority.gate.clear()
        server.authority.reached.clear()
        async with calling(sign_in, server.url) as call:
            caller = asyncio.create_task(call())
            # The server has given another refresh token for ours, and we have not heard of it yet.
            await server.authority.reached.wait()
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            server.authority.gate.set()

            assert 200 == (await call()).status_code
    assert 1 == server.authority.asked["refresh_token"]


async def test_a_refresh_answer_without_a_refresh_token_leaves_the_old_one(tmp_path):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        server.authority.trouble = JSONResponse({"access_token": "a", "token_type": "bearer", "expires_in": 3600})
        # The server does not know that token, and the next refresh brings it again.
        with pytest.raises(SignInNeeded, match="even a new token"):
            await status_of_call(sign_in, server.url)

    status = sign_in.status(server.url, "oauth")
    assert (True, HOUR) == (status["can_refresh"], status["expires_in"])


# When there is no refresh


async def test_without_a_refresh_token_the_token_is_used_to_its_end(tmp_path):
    clock = Clock()
    async with protected_server(AuthorizationServer(gives_refresh_tokens=False)) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR - 1
        last = await status_of_call(sign_in, server.url)
        clock.time += 2

        with pytest.raises(SignInNeeded, match="has run out") as refused:
            await status_of_call(sign_in, server.url)
    assert 200 == last
    assert "tasak auth login app" == refused.value.fix


async def test_a_token_without_an_end_is_used_until_it_is_refused(tmp_path):
    clock = Clock()
    async with protected_server(AuthorizationServer(lifetime=None, gives_refresh_tokens=False)) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += 1000 * HOUR
        status = await status_of_call(sign_in, server.url)
        server.authority.expire()

        with pytest.raises(SignInNeeded, match="not take the sign-in any more"):
            await status_of_call(sign_in, server.url)
    assert 200 == status


async def test_a_refresh_token_that_is_worth_nothing_is_sent_once(tmp_path):
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path)
        server.authority.expire()
        server.authority.refresh.clear()
        asked = server.authority.asked["token"]
        for _ in range(3):
            with pytest.raises(SignInNeeded) as refused:
                await status_of_call(sign_in, server.url)

    assert "tasak auth login app" == refused.value.fix
    assert asked + 1 == server.authority.asked["token"]


async def test_a_client_that_the_server_has_forgotten_is_registered_anew_at_the_next_login(tmp_path):
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path)
        server.authority.expire()
        server.authority.clients.clear()
        with pytest.raises(SignInNeeded, match="invalid_client"):
            await status_of_call(sign_in, server.url)

        again = await signed_in(server, tmp_path)
        assert 200 == await status_of_call(again, server.url)
    assert 2 == server.authority.asked["register"]


async def test_a_refusal_that_comes_as_success_is_a_refusal(tmp_path):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        server.authority.trouble = JSONResponse({"error": "bad_refresh_token", "error_description": "it is spent"})

        with pytest.raises(SignInNeeded, match="bad_refresh_token: it is spent"):
            await status_of_call(sign_in, server.url)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_authorization_server_in_trouble_wants_no_sign_in(tmp_path, status):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        server.authority.trouble = PlainTextResponse("no", status)
        with pytest.raises(NotExecuted, match="in trouble"):
            await status_of_call(sign_in, server.url)
        server.authority.trouble = None

        assert 200 == await status_of_call(sign_in, server.url)


async def test_an_authorization_server_that_is_away_wants_no_sign_in(tmp_path):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        issuer = server.authority.issuer
    clock.time += HOUR + 1

    with pytest.raises(NotExecuted, match="cannot be reached") as refused:
        await status_of_call(sign_in, server.url)
    assert issuer in refused.value.message


async def test_while_it_is_in_trouble_a_token_is_used_to_its_end(tmp_path):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        server.authority.trouble = PlainTextResponse("no", 503)
        clock.time += HOUR - 5

        assert 200 == await status_of_call(sign_in, server.url)


async def test_an_answer_that_is_no_token_loses_nothing(tmp_path):
    clock = Clock()
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        server.authority.trouble = JSONResponse({"refresh_token": "s3cret"})
        with pytest.raises(NotExecuted, match="no token that can be used") as refused:
            await status_of_call(sign_in, server.url)
        server.authority.trouble = None

        assert 200 == await status_of_call(sign_in, server.url)
    assert "s3cret" not in f"{refused.value}{refused.value.__cause__}"


async def test_a_server_that_refuses_even_a_new_token_is_said(tmp_path):
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path)
        server.answer = Response(status_code=401)

        with pytest.raises(SignInNeeded, match="even a new token"):
            await status_of_call(sign_in, server.url)
    assert 1 == server.authority.asked["refresh_token"]


# Scopes


async def test_missing_scopes_are_said_and_remembered_in_one_union(tmp_path):
    async with protected_server(required_scopes=["read"]) as server:
        sign_in = await signed_in(server, tmp_path)
        for missing in ("write", "admin write"):
            server.needs = missing
            with pytest.raises(SignInNeeded, match=f"does not give: {missing}"):
                await status_of_call(sign_in, server.url)

    status = AppSignIn("app", tmp_path).status(server.url, "oauth")
    assert (["read"], ["read", "write", "admin"]) == (status["scopes"], status["asked_for"])


async def test_another_403_is_the_server_s_own_answer(tmp_path):
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path)
        server.answer = Response(status_code=403)

        assert 403 == await status_of_call(sign_in, server.url)
    assert [] == sign_in.status(server.url, "oauth")["asked_for"]


# Where a token goes


async def test_a_token_goes_to_the_server_that_it_is_for_and_to_no_other(tmp_path):
    seen: list[bytes | None] = []

    async def other(scope, receive, send):
        if scope["type"] == "http":
            seen.append(dict(scope["headers"]).get(b"authorization"))
            await Response(status_code=401)(scope, receive, send)

    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path)
        flow = sign_in.flow(server.url, "oauth", client=http_client)
        with bound() as listener:
            async with serving(other, listener), http_client(auth=flow) as client:
                response = await client.post(f"{origin_of(listener)}/mcp", json=INITIALIZE, headers=ACCEPT)

    assert (401, [None]) == (response.status_code, seen)


async def test_the_sign_in_of_one_app_is_not_used_for_another_url_of_the_same_server(tmp_path):
    async with protected_server() as server:
        await signed_in(server, tmp_path)
        other = AppSignIn("other", tmp_path)

        with pytest.raises(SignInNeeded, match="nobody is signed in"):
            await status_of_call(other, f"{server.url}/more")
        with pytest.raises(SignInNeeded, match="nobody is signed in"):
            await status_of_call(other, server.url, {"type": "oauth", "client_id": "another"})


async def test_a_token_endpoint_that_redirects_elsewhere_is_not_followed(tmp_path):
    clock = Clock()
    seen: list[str] = []

    async def elsewhere(scope, receive, send):
        if scope["type"] == "http":
            seen.append(scope["path"])
            await JSONResponse({})(scope, receive, send)

    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        with bound() as listener:
            async with serving(elsewhere, listener):
                server.authority.trouble = RedirectResponse(f"{origin_of(listener)}/token", 307)
                with pytest.raises(NotExecuted, match="HTTP 307"):
                    await status_of_call(sign_in, server.url)

    assert [] == seen


async def test_a_login_s_token_request_is_not_led_elsewhere_either(tmp_path):
    seen: list[str] = []

    async def elsewhere(scope, receive, send):
        if scope["type"] == "http":
            seen.append(scope["path"])
            await JSONResponse({})(scope, receive, send)

    with bound() as listener:
        async with serving(elsewhere, listener):
            authority = AuthorizationServer(trouble=RedirectResponse(f"{origin_of(listener)}/token", 307))
            async with protected_server(authority, is_separate=True) as server:
                with pytest.raises(SignInNeeded, match="no token that can be used"):
                    await signed_in(server, tmp_path)

    assert [] == seen


async def test_a_token_is_kept_before_it_is_used(tmp_path):
    clock = Clock()
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path, now=clock)
        clock.time += HOUR + 1
        await status_of_call(sign_in, server.url)
        used = server.tokens[-1]

    (file,) = tmp_path.glob("*.json")
    (kept,) = json.loads(file.read_text())["logins"]
    assert f"Bearer {kept['token']['access_token']}" == used
