"""Tokens that the user has from somewhere else."""

import os

import httpx2
import pytest

from tasak.auth.sign_in import AppSignIn
from tasak.errors import BadConfig, SignInNeeded
from tests.auth.authorization_server import ProtectedServer, protected_server
from tests.auth.signing_in import calling, status_of_call
from tests.http_client import http_client


def token_for(server: ProtectedServer, *scopes: str) -> str:
    return server.authority.issue("someone", list(scopes), server.url).access_token


async def test_a_token_in_the_config_is_used(tmp_path):
    async with protected_server() as server:
        auth = {"type": "bearer", "token": token_for(server)}

        assert 200 == await status_of_call(AppSignIn("app", tmp_path), server.url, auth)


async def test_a_token_in_a_file_is_read_again_when_the_file_has_changed(tmp_path):
    file = tmp_path / "token"
    file.touch(0o600)
    async with protected_server() as server:
        file.write_text(f"{token_for(server)}\n")
        async with calling(AppSignIn("app", tmp_path), server.url, {"type": "bearer", "token_file": str(file)}) as call:
            before = await call()
            server.authority.expire()
            file.write_text(token_for(server))
            after = await call()

    assert (200, 200) == (before.status_code, after.status_code)


async def test_a_file_that_changes_while_its_token_is_refused_is_read_once_more(tmp_path):
    file = tmp_path / "token"
    file.touch(0o600)
    async with protected_server() as server:
        file.write_text("old")
        fresh = token_for(server)

        async def rotated(request: httpx2.Request) -> None:
            # After the flow has read the file, and before the server sees the request.
            file.write_text(fresh)

        auth = {"type": "bearer", "token_file": str(file)}
        flow = AppSignIn("app", tmp_path).flow(server.url, auth, client=http_client)
        async with http_client(auth=flow, event_hooks={"request": [rotated]}) as client:
            response = await client.post(server.url)

    assert [f"Bearer {token}" for token in ("old", fresh)] == server.tokens
    assert 401 != response.status_code


async def test_a_token_that_the_server_does_not_take_is_for_the_user_to_mend(tmp_path):
    async with protected_server() as server:
        with pytest.raises(SignInNeeded, match="does not take the token") as refused:
            await status_of_call(AppSignIn("app", tmp_path), server.url, {"type": "bearer", "token": "canary"})

    assert "canary" not in f"{refused.value} {refused.value.fix}"
    assert "auth:" in (refused.value.fix or "")


async def test_scopes_that_the_token_has_not_are_named(tmp_path):
    async with protected_server() as server:
        server.needs = "admin"
        auth = {"type": "bearer", "token": token_for(server, "read")}
        with pytest.raises(SignInNeeded, match="does not give: admin"):
            await status_of_call(AppSignIn("app", tmp_path), server.url, auth)


@pytest.mark.parametrize("token", ["canary\n", "canary canary", "canary\x01", "canaryü"])
async def test_what_cannot_be_a_token_is_not_sent_and_not_shown(tmp_path, token):
    async with protected_server() as server:
        with pytest.raises(BadConfig, match="no token has") as refused:
            await status_of_call(AppSignIn("app", tmp_path), server.url, {"type": "bearer", "token": token})

    assert "canary" not in f"{refused.value} {refused.value.fix}"
    assert [] == server.tokens


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "cannot be read"),
        ("empty", "is empty"),
        ("binary", "is no text"),
        ("huge", "no plain file"),
        ("folder", "no plain file"),
        ("pipe", "no plain file"),
    ],
)
async def test_a_file_that_holds_no_token_is_said(tmp_path, kind, message):
    file = tmp_path / "token"
    match kind:
        case "empty":
            file.write_text("\n")
        case "binary":
            file.write_bytes(b"\xff")
        case "huge":
            file.write_bytes(b"x" * 100_000)
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
    if file.is_file():
        file.chmod(0o600)
    sign_in = AppSignIn("app", tmp_path)
    auth = {"type": "bearer", "token_file": str(file)}
    async with protected_server() as server:
        with pytest.raises(BadConfig, match=message) as refused:
            await status_of_call(sign_in, server.url, auth)

    assert str(file) in refused.value.message
    assert not sign_in.status(server.url, auth)["signed_in"]


async def test_a_file_that_others_can_use_is_refused_with_the_command_that_mends_it(tmp_path):
    file = tmp_path / "token"
    file.write_text("canary")
    file.chmod(0o644)
    async with protected_server() as server:
        with pytest.raises(BadConfig, match="can be used by others \\(mode 644\\)") as refused:
            await status_of_call(AppSignIn("app", tmp_path), server.url, {"type": "bearer", "token_file": str(file)})

    assert f"chmod 600 {file}" == refused.value.fix
    assert "canary" not in refused.value.message
    assert [] == server.tokens


async def test_there_is_nothing_to_sign_in_to_or_out_of(tmp_path):
    auth = {"type": "bearer", "token": "t"}
    sign_in = AppSignIn("app", tmp_path)

    with pytest.raises(BadConfig, match="in the config"):
        await sign_in.login("http://127.0.0.1:1/", auth, client=http_client, opens_browser=True)
    assert not await sign_in.logout("http://127.0.0.1:1/", auth)
    assert sign_in.status("http://127.0.0.1:1/", auth)["signed_in"]
