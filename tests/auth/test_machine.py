"""A program that signs in for itself: no person, no browser, and calls just work."""

import asyncio
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.responses import PlainTextResponse

from tasak.auth.sign_in import AppSignIn
from tasak.errors import BadConfig, NotExecuted, SignInNeeded
from tests.auth.authorization_server import AuthorizationServer, ProtectedServer, protected_server
from tests.auth.signing_in import Clock, calling, kept, status_of_call
from tests.http_client import http_client

HOUR = 3600.0
WITH_SECRET = {"type": "oauth", "grant": "client_credentials", "client_id": "ci", "client_secret": "s3c:ret%"}
WITH_KEY = {"type": "oauth", "grant": "client_credentials", "client_id": "ci"}


def at(server: ProtectedServer, auth: dict[str, Any] = WITH_SECRET) -> dict[str, Any]:
    """The same, for a client that is registered at this server's authorization server."""
    return {**auth, "issuer": server.authority.issuer}


def known(**knobs: object) -> AuthorizationServer:
    return AuthorizationServer(programs={"ci": "s3c:ret%"}, **knobs)


def pair(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    """The key, and its public half, in PEM."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


RSA = pair(rsa.generate_private_key(public_exponent=65537, key_size=2048))
EC = pair(ec.generate_private_key(ec.SECP256R1()))


async def test_a_call_fetches_its_token_and_the_next_ones_use_it(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        statuses = [await status_of_call(AppSignIn("app", tmp_path), server.url, at(server)) for _ in range(3)]

    assert [200, 200, 200] == statuses
    assert 1 == server.authority.asked["client_credentials"]


@pytest.mark.slow
async def test_fifty_first_callers_share_one_token(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        sign_ins = [AppSignIn("app", tmp_path) for _ in range(2)]
        async with (
            calling(sign_ins[0], server.url, at(server)) as one,
            calling(sign_ins[1], server.url, at(server)) as other,
        ):
            responses = await asyncio.gather(*(call() for _ in range(25) for call in (one, other)))

    assert {200} == {response.status_code for response in responses}
    assert 1 == server.authority.asked["client_credentials"]


@pytest.mark.parametrize("happens", ["it runs out", "it is refused"])
async def test_another_token_is_fetched_when_the_first_is_good_no_more(tmp_path, happens):
    clock = Clock()
    async with protected_server(known(), is_separate=True) as server:
        sign_in = AppSignIn("app", tmp_path, now=clock)
        await status_of_call(sign_in, server.url, at(server))
        if happens == "it runs out":
            clock.time += HOUR + 1
        else:
            server.authority.expire()

        assert 200 == await status_of_call(sign_in, server.url, at(server))
    assert 2 == server.authority.asked["client_credentials"]


@pytest.mark.parametrize("is_in_file", [False, True])
@pytest.mark.parametrize(("keys", "more"), [(RSA, {}), (EC, {"signing_algorithm": "ES256"})])
async def test_a_private_key_stands_for_a_secret(tmp_path, is_in_file, keys, more):
    private, public = keys
    if is_in_file:
        (tmp_path / "key.pem").touch(0o600)
        (tmp_path / "key.pem").write_text(private)
        private = str(tmp_path / "key.pem")
    async with protected_server(AuthorizationServer(keys={"ci": public}), is_separate=True) as server:
        auth = at(server, {**WITH_KEY, "private_key": private, **more})

        assert 200 == await status_of_call(AppSignIn("app", tmp_path / "auth"), server.url, auth)


async def test_a_key_that_cannot_sign_so_is_said_without_showing_it(tmp_path):
    async with protected_server(AuthorizationServer(keys={"ci": EC[1]}), is_separate=True) as server:
        auth = at(server, {**WITH_KEY, "private_key": EC[0], "signing_algorithm": "RS256"})
        with pytest.raises(BadConfig, match="cannot sign with RS256") as refused:
            await status_of_call(AppSignIn("app", tmp_path), server.url, auth)

    assert EC[0].splitlines()[1] not in f"{refused.value} {refused.value.fix}"


async def test_the_configured_scopes_are_asked_for_beside_the_server_s(tmp_path):
    async with protected_server(known(), is_separate=True, required_scopes=["read"]) as server:
        await status_of_call(AppSignIn("app", tmp_path), server.url, at(server, {**WITH_SECRET, "scopes": "write"}))

    assert ["write read"] == [form["scope"] for form in server.authority.forms]


async def test_missing_scopes_are_fetched_without_asking_anyone(tmp_path):
    async with protected_server(known(), is_separate=True, required_scopes=["read"]) as server:
        sign_in = AppSignIn("app", tmp_path)
        await status_of_call(sign_in, server.url, at(server))
        server.needs = "admin"

        assert 200 == await status_of_call(sign_in, server.url, at(server))
    assert ["read", "read admin"] == [form["scope"] for form in server.authority.forms]


async def test_scopes_that_are_not_given_are_said(tmp_path):
    authority = known()
    async with protected_server(authority, is_separate=True, required_scopes=["read"]) as server:
        server.needs = "admin"
        authority.withheld = {"admin"}
        sign_in = AppSignIn("app", tmp_path)
        for _ in range(2):
            with pytest.raises(SignInNeeded, match="does not give: admin"):
                await status_of_call(sign_in, server.url, at(server))

    assert 2 == authority.asked["client_credentials"]


async def test_a_wrong_secret_is_said_with_where_to_look(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        with pytest.raises(SignInNeeded, match="invalid_client") as refused:
            await status_of_call(
                AppSignIn("app", tmp_path), server.url, at(server, {**WITH_SECRET, "client_secret": "wr0ng"})
            )

    assert "`client_id`" in (refused.value.fix or "")
    assert "wr0ng" not in str(refused.value)


async def test_an_authorization_server_in_trouble_is_tried_again(tmp_path):
    async with protected_server(known(trouble=PlainTextResponse("no", 503)), is_separate=True) as server:
        sign_in = AppSignIn("app", tmp_path)
        with pytest.raises(NotExecuted, match="in trouble"):
            await status_of_call(sign_in, server.url, at(server))
        server.authority.trouble = None

        assert 200 == await status_of_call(sign_in, server.url, at(server))


# Which authorization server


async def test_a_secret_goes_to_the_configured_issuer(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        auth = {**WITH_SECRET, "issuer": server.authority.issuer}

        assert 200 == await status_of_call(AppSignIn("app", tmp_path), server.url, auth)


async def test_a_secret_goes_to_no_other_issuer_than_the_configured_one(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        auth = {**WITH_SECRET, "issuer": "https://login.example"}
        with pytest.raises(SignInNeeded, match=r"login\.example"):
            await status_of_call(AppSignIn("app", tmp_path), server.url, auth)

    assert [] == server.authority.forms


@pytest.mark.parametrize("auth", [WITH_SECRET, {**WITH_KEY, "private_key": RSA[0]}])
@pytest.mark.parametrize("is_separate", [False, True])
async def test_a_secret_or_a_key_is_used_nowhere_before_the_user_has_said_where(tmp_path, auth, is_separate):
    async with protected_server(known(keys={"ci": RSA[1]}), is_separate=is_separate) as server:
        sign_in = AppSignIn("app", tmp_path)
        with pytest.raises(
            BadConfig, match=f"app: the server sends the sign-in to {server.authority.issuer}"
        ) as refused:
            await status_of_call(sign_in, server.url, auth)

        assert f"`issuer: {server.authority.issuer}`" in (refused.value.fix or "")
        assert 0 == server.authority.asked["client_credentials"]
        if is_separate:
            assert 200 == await status_of_call(sign_in, server.url, at(server, auth))


async def test_a_secret_does_not_move_with_the_server(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        auth = at(server)
        await status_of_call(AppSignIn("app", tmp_path), server.url, auth)
    port = httpx2.URL(server.url).port
    async with protected_server(known(), is_separate=True, port=port) as moved:
        with pytest.raises(SignInNeeded, match=f"to {moved.authority.issuer}, but .* to {auth['issuer']}") as refused:
            await status_of_call(AppSignIn("app", tmp_path), moved.url, auth)

    assert "change `issuer:`" in (refused.value.fix or "")
    assert [] == moved.authority.forms


async def test_logging_in_tries_it(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        sign_in = AppSignIn("app", tmp_path)
        await sign_in.login(server.url, at(server), client=http_client, opens_browser=True)

        assert sign_in.status(server.url, at(server))["signed_in"]
        with pytest.raises(SignInNeeded):
            await sign_in.login(
                server.url,
                at(server, {**WITH_SECRET, "client_secret": "no"}),
                client=http_client,
                opens_browser=True,
            )


async def test_the_secret_stays_in_the_config(tmp_path):
    async with protected_server(known(), is_separate=True) as server:
        await status_of_call(AppSignIn("app", tmp_path), server.url, at(server))

    assert "access_token" in kept(tmp_path)
    assert "s3c:ret%" not in kept(tmp_path)
