"""What an app's `auth:` says: the schema that it is held against, and the same thing parsed."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasak.auth.secret_file import read_secret
from tasak.errors import BadConfig
from tasak.paths import home
from tasak.secret import Secret

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
DEFAULT_ALGORITHM = "RS256"

# What a file with a key in it begins with, and a path does not.
PEM_MARK = "-----BEGIN"

AUTH_SCHEMA: dict[str, Any] = {
    "description": "How to sign in: `oauth`, or a mapping with `type: oauth` or `type: bearer`",
    "type": ["string", "object"],
    "if": {"type": "string"},
    "then": {"enum": ["oauth"]},
    "properties": {
        "type": {"enum": ["oauth", "bearer"]},
        "client_id": {"description": "A client that you registered at the authorization server", "type": "string"},
        "client_secret": {"type": "string"},
        "scopes": {
            "description": "Scopes to ask for beside those that the server names: a list, or one string",
            "type": ["array", "string"],
            "items": {"type": "string"},
        },
        "client_metadata_url": {"description": "The https URL of a client metadata document", "type": "string"},
        "issuer": {
            "description": "The authorization server to use, and no other; needed with a secret or a key",
            "type": "string",
        },
        "redirect_port": {
            "description": "The port of 127.0.0.1 that you registered for the callback",
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
        },
        "grant": {"enum": ["authorization_code", "client_credentials"]},
        "private_key": {"description": "A key in PEM, or the path of a file with one", "type": "string"},
        "signing_algorithm": {"enum": list(ALGORITHMS)},
        "token": {"description": "A token that you have already", "type": "string"},
        "token_file": {"description": "The path of a file with the token", "type": "string"},
    },
    "required": ["type"],
    "additionalProperties": False,
}

COMMON = frozenset({"type", "grant", "client_id", "client_secret", "scopes", "issuer"})
FOR_PERSONS = COMMON | {"client_metadata_url", "redirect_port"}
FOR_MACHINES = COMMON | {"private_key", "signing_algorithm"}
FOR_BEARER = frozenset({"type", "token", "token_file"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """A person signs in, in a browser."""

    client_id: str | None = None
    client_secret: Secret | None = None
    client_metadata_url: str | None = None
    scopes: str | None = None
    issuer: str | None = None
    redirect_port: int | None = None

    @property
    def key(self) -> str | None:
        """Tells this client's sign-in from another one's at the same server."""
        return self.client_id or self.client_metadata_url

    @property
    def has_secret(self) -> bool:
        """Whether an authorization server is shown what only the right one may see."""
        return self.client_secret is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """The program signs in for itself, with a secret or a key of its own."""

    client_id: str
    client_secret: Secret | None = None
    private_key: Callable[[], Secret] | None = field(default=None, repr=False)
    """Reads the key, in PEM."""
    signing_algorithm: str = DEFAULT_ALGORITHM
    scopes: str | None = None
    issuer: str | None = None

    @property
    def key(self) -> str:
        return self.client_id

    @property
    def has_secret(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that the user has from somewhere else."""

    token: Callable[[], Secret] = field(repr=False)
    """Reads it; it may be another one each time."""


Auth = OAuth | ClientCredentials | Bearer


def parse(auth: Any) -> Auth:
    """`auth` as the schema has passed it.

    Raises:
        BadConfig: its keys do not go together, or a value is none.
    """
    given: Mapping[str, Any] = {"type": auth} if isinstance(auth, str) else auth
    if empty := [name for name, value in given.items() if value == ""]:
        raise BadConfig(f"`auth.{empty[0]}` is empty", fix="give it a value, or leave it out")
    if given["type"] == "bearer":
        return bearer(given)
    if given.get("grant") == "client_credentials":
        return client_credentials(given)
    return oauth(given)


def bearer(given: Mapping[str, Any]) -> Bearer:
    no_others(given, FOR_BEARER, "`type: bearer`")
    exactly_one(given, "token", "token_file")
    if "token" in given:
        token = Secret(given["token"])
        return Bearer(lambda: token)
    path = path_of("token_file", given["token_file"])
    return Bearer(lambda: read_secret(path, "the token file"))


def client_credentials(given: Mapping[str, Any]) -> ClientCredentials:
    no_others(given, FOR_MACHINES, "`grant: client_credentials`")
    if "client_id" not in given:
        raise BadConfig(
            "`grant: client_credentials` needs a `client_id`",
            fix="register a client at the authorization server, and write its `client_id` under `auth:`",
        )
    exactly_one(given, "client_secret", "private_key")
    if "signing_algorithm" in given and "private_key" not in given:
        raise BadConfig("`auth.signing_algorithm` is for a `private_key`", fix="remove it")
    return ClientCredentials(
        client_id=given["client_id"],
        client_secret=client_secret(given),
        private_key=private_key(given["private_key"]) if "private_key" in given else None,
        signing_algorithm=given.get("signing_algorithm", DEFAULT_ALGORITHM),
        scopes=as_scope(given.get("scopes")),
        issuer=issuer(given.get("issuer")),
    )


def oauth(given: Mapping[str, Any]) -> OAuth:
    other_ways = "remove it, or write what it is for: `type: bearer` or `grant: client_credentials`"
    no_others(given, FOR_PERSONS, "a sign-in in the browser", other_ways)
    if "client_secret" in given and "client_id" not in given:
        raise BadConfig("`auth.client_secret` needs a `client_id`", fix="write both, or neither")
    if "client_metadata_url" in given:
        exactly_one(given, "client_id", "client_metadata_url")
    return OAuth(
        client_id=given.get("client_id"),
        client_secret=client_secret(given),
        client_metadata_url=metadata_url(given.get("client_metadata_url")),
        scopes=as_scope(given.get("scopes")),
        issuer=issuer(given.get("issuer")),
        redirect_port=given.get("redirect_port"),
    )


def no_others(given: Mapping[str, Any], fitting: frozenset[str], kind: str, fix: str = "remove it") -> None:
    if others := [name for name in given if name not in fitting]:
        raise BadConfig(f"`auth.{others[0]}` does not go with {kind}", fix=fix)


def exactly_one(given: Mapping[str, Any], one: str, other: str) -> None:
    if (one in given) == (other in given):
        found = f"both `{one}` and `{other}`" if one in given else f"neither `{one}` nor `{other}`"
        raise BadConfig(f"`auth:` has {found}", fix="write one of them")


def client_secret(given: Mapping[str, Any]) -> Secret | None:
    return Secret(given["client_secret"]) if "client_secret" in given else None


def private_key(text: str) -> Callable[[], Secret]:
    if PEM_MARK in text:
        return lambda: Secret(text)
    path = path_of("private_key", text)
    return lambda: read_secret(path, "the private key")


def path_of(name: str, text: str) -> Path:
    path = Path(home(), text[2:]) if text.startswith("~/") else Path(text)
    # The daemon has no working directory that could be meant. What it is instead may be a secret in the wrong place.
    if not os.path.isabs(path):
        raise BadConfig(f"`auth.{name}` is no absolute path", fix="write it from `/` or `~/` on")
    return path


def as_scope(scopes: Any) -> str | None:
    words = scopes.split() if isinstance(scopes, str) else [word for scope in scopes or () for word in scope.split()]
    return " ".join(words) or None


def issuer(url: str | None) -> str | None:
    if url is not None and not re.match(r"https?://[^/?#]+", url):
        raise BadConfig("`auth.issuer` is no URL", fix="write the authorization server's https URL")
    return url


def metadata_url(url: str | None) -> str | None:
    """As the specification wants it: https, with a path (OAuth client ID metadata document)."""
    if url is not None and not re.match(r"https://[^/?#]+/[^?#]", url):
        raise BadConfig(
            "`auth.client_metadata_url` is no https URL with a path",
            fix="write the URL under which the document is published",
        )
    return url
