"""What `auth:` may say, and what is said of the rest."""

import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from tasak.auth.options import AUTH_SCHEMA, Bearer, ClientCredentials, OAuth, parse
from tasak.errors import BadConfig

PEM = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("oauth", OAuth()),
        ({"type": "oauth"}, OAuth()),
        ({"type": "oauth", "scopes": "a b"}, OAuth(scopes="a b")),
        ({"type": "oauth", "scopes": ["a", "b c"]}, OAuth(scopes="a b c")),
        ({"type": "oauth", "scopes": []}, OAuth()),
        (
            {"type": "oauth", "client_id": "i", "client_secret": "s", "redirect_port": 8000},
            OAuth(client_id="i", client_secret="s", redirect_port=8000),
        ),
        (
            {"type": "oauth", "client_metadata_url": "https://a/b", "issuer": "https://c"},
            OAuth(client_metadata_url="https://a/b", issuer="https://c"),
        ),
        (
            {"type": "oauth", "grant": "client_credentials", "client_id": "i", "client_secret": "s"},
            ClientCredentials(client_id="i", client_secret="s"),
        ),
        ({"type": "oauth", "grant": "authorization_code"}, OAuth()),
    ],
)
def test_it_is_read(auth, expected):
    Draft202012Validator(AUTH_SCHEMA).validate(auth)

    assert expected == parse(auth)


@pytest.mark.parametrize(
    "auth",
    [
        "bearer",
        "OAuth",
        None,
        True,
        [],
        {},
        {"type": "basic"},
        {"type": "oauth", "scope": "a"},
        {"type": "oauth", "scopes": [1]},
        {"type": "oauth", "redirect_port": 0},
        {"type": "oauth", "grant": "password"},
        {"type": "oauth", "signing_algorithm": "HS256"},
        {"type": "oauth", "signing_algorithm": "none"},
    ],
)
def test_what_is_nothing_of_the_kind_is_refused_by_the_schema(auth):
    assert not Draft202012Validator(AUTH_SCHEMA).is_valid(auth)


MACHINE = {"type": "oauth", "grant": "client_credentials", "client_id": "i"}


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ({"type": "oauth", "token": "t"}, "`auth.token` does not go with a sign-in in the browser"),
        ({"type": "oauth", "private_key": PEM}, "`auth.private_key` does not go with a sign-in in the browser"),
        ({"type": "oauth", "client_secret": "s"}, "`auth.client_secret` needs a `client_id`"),
        ({"type": "oauth", "client_id": ""}, "`auth.client_id` is empty"),
        ({"type": "oauth", "client_id": "i", "client_metadata_url": "https://a/b"}, "has both"),
        ({"type": "oauth", "client_metadata_url": "http://a/b"}, "no https URL with a path"),
        ({"type": "oauth", "client_metadata_url": "https://a/"}, "no https URL with a path"),
        ({"type": "oauth", "issuer": "login.example"}, "`auth.issuer` is no URL"),
        ({"type": "oauth", "issuer": "https://"}, "`auth.issuer` is no URL"),
        ({**MACHINE, "client_secret": "s", "private_key": PEM}, "has both `client_secret` and `private_key`"),
        (MACHINE, "has neither `client_secret` nor `private_key`"),
        ({"type": "oauth", "grant": "client_credentials", "client_secret": "s"}, "needs a `client_id`"),
        ({**MACHINE, "client_secret": "s", "signing_algorithm": "RS256"}, "is for a `private_key`"),
        ({**MACHINE, "client_secret": "s", "redirect_port": 1}, "`auth.redirect_port` does not go with `grant:"),
        ({**MACHINE, "private_key": "key.pem"}, "`auth.private_key` is no absolute path"),
        ({"type": "bearer"}, "has neither `token` nor `token_file`"),
        ({"type": "bearer", "token": "t", "token_file": "/t"}, "has both"),
        ({"type": "bearer", "token": "t", "scopes": "a"}, "`auth.scopes` does not go with `type: bearer`"),
        ({"type": "bearer", "token_file": "t"}, "`auth.token_file` is no absolute path"),
    ],
)
def test_what_does_not_go_together_is_said_with_a_way_out(auth, message):
    Draft202012Validator(AUTH_SCHEMA).validate(auth)

    with pytest.raises(BadConfig) as refused:
        parse(auth)
    assert message in refused.value.message
    assert refused.value.fix


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "bearer", "token": "canary"},
        {"type": "oauth", "client_id": "i", "client_secret": "canary"},
        {**MACHINE, "client_secret": "canary"},
        {**MACHINE, "private_key": PEM},
    ],
)
def test_no_secret_is_shown(auth):
    assert "canary" not in repr(parse(auth))


def test_a_secret_in_the_place_of_a_path_is_not_shown():
    with pytest.raises(BadConfig) as refused:
        parse({"type": "bearer", "token_file": "canary"})

    assert "canary" not in f"{refused.value} {refused.value.fix}"


def test_a_path_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("t0ken\n")
    bearer = parse({"type": "bearer", "token_file": "~/token"})

    assert isinstance(bearer, Bearer)
    assert "t0ken" == bearer.token()


def test_reading_the_options_loads_nothing_heavy():
    code = "import sys, tasak.auth.options; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert set() == set(done.stdout.split()) & {"mcp", "aiohttp", "pydantic", "httpx2", "asyncio"}
