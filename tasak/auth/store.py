"""Where sign-ins are kept: one private file for each authorization server, which is told by its issuer.

A client and its tokens are worth something at the server that issued them, and must not be shown to another one.
Whoever changes a file holds the lock of its issuer, from before reading what is there until the new text is in place.
"""

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcp.shared.auth import OAuthClientInformationFull, OAuthMetadata, OAuthToken
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasak.auth.lock import locked
from tasak.auth.reach import same_issuer
from tasak.errors import BadConfig
from tasak.paths import make_private, open_own, quoted, write_private

# Whoever holds it waits for an authorization server, which is given less time than this.
LOCK_TIMEOUT = 30.0


class AuthorizationServer(BaseModel):
    """Who issued a token."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    metadata: OAuthMetadata | None = None
    """What it publishes about itself; None for one of the first days of MCP, which publishes nothing."""


class Login(BaseModel):
    """One sign-in: to this URL, as this client."""

    model_config = ConfigDict(frozen=True)

    url: str
    key: str | None = None
    """The client that the user has configured; None where the authorization server made one."""
    client: OAuthClientInformationFull | None = Field(default=None, repr=False)
    redirect_port: int | None = None
    """The port of the callback: registered with the client, and the same ever after."""
    resource: str | None = None
    """What the token was asked for (RFC 8707)."""
    asked: str | None = None
    """The scopes asked for so far, and those that the server missed since."""
    token: OAuthToken | None = Field(default=None, repr=False)
    obtained: float = 0.0
    """When the token came, in seconds since the epoch: the life it has left outlasts this process."""

    def seconds_left(self, now: float) -> float | None:
        """How long the token is good for; None where its issuer did not say."""
        if self.token is None or self.token.expires_in is None:
            return None
        # A clock that was set back must not make it live longer.
        return self.token.expires_in - max(0.0, now - self.obtained)

    def has_expired(self, now: float) -> bool:
        left = self.seconds_left(now)
        return left is not None and left <= 0


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A sign-in, and where it was made."""

    server: AuthorizationServer
    login: Login


class Contents(AuthorizationServer):
    """A file of the store."""

    version: Literal[1] = 1
    logins: tuple[Login, ...] = ()


class TokenStore:
    """The sign-ins in one folder. Nothing is created before something is to be kept."""

    def __init__(self, folder: Path, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self._folder = folder
        self._lock_timeout = lock_timeout
        self._read: dict[Path, tuple[tuple[int, ...], Contents]] = {}

    def find(self, url: str, key: str | None, issuer: str | None = None) -> SignedIn | None:
        """The sign-in to `url` as the client `key`, at `issuer` where one is given.

        Raises:
            BadConfig: it is not there, and a file that may hold it cannot be read.
        """
        found, problem = self._search(url, key)
        fitting = [each for each in found if issuer is None or same_issuer(each.server.issuer, issuer)]
        if not fitting and problem is not None:
            raise problem
        return max(fitting, key=lambda each: each.login.obtained, default=None)

    def all(self, url: str, key: str | None) -> list[SignedIn]:
        """The sign-ins to `url` as the client `key`, at whichever authorization server.

        Raises:
            BadConfig: as for `find`.
        """
        found, problem = self._search(url, key)
        if not found and problem is not None:
            raise problem
        return found

    @contextlib.asynccontextmanager
    async def locked(self, issuer: str) -> AsyncIterator[None]:
        """Hold the lock of `issuer`, against other processes and against other tasks of this one.

        Raises:
            NotExecuted: another one has held it for too long.
            BadConfig: the folder cannot be used.
        """
        self.create()
        async with locked(self._path(issuer).with_suffix(".lock"), self._lock_timeout):
            yield

    def put(self, server: AuthorizationServer, login: Login) -> None:
        """Keep a sign-in, in place of the one before. The caller holds the lock."""
        path = self._path(server.issuer)
        logins = (*self._others(path, login), login)
        self._write(path, Contents(issuer=server.issuer, metadata=server.metadata, logins=logins))

    def drop(self, found: SignedIn) -> None:
        """Forget a sign-in. The caller holds the lock."""
        path = self._path(found.server.issuer)
        others = self._others(path, found.login)
        if others:
            self._write(path, Contents(issuer=found.server.issuer, metadata=found.server.metadata, logins=others))
        else:
            self._remove(path)

    def create(self) -> None:
        """Make the folder, private whatever the umask is.

        Raises:
            BadConfig: it belongs to someone else, is a link, or cannot be made.
        """
        try:
            if not self._folder.parent.exists():
                make_private(self._folder.parent)
            make_private(self._folder)
        except OSError as problem:
            raise BadConfig(f"{self._folder} cannot be made: {problem}", fix="see who may write there") from None

    def _search(self, url: str, key: str | None) -> tuple[list[SignedIn], BadConfig | None]:
        found: list[SignedIn] = []
        problem: BadConfig | None = None
        for path in self._files():
            try:
                contents = self._contents(path)
            except BadConfig as trouble:
                problem = trouble
                continue
            found += [SignedIn(contents, login) for login in contents.logins if (login.url, login.key) == (url, key)]
        return found, problem

    def _others(self, path: Path, login: Login) -> tuple[Login, ...]:
        logins = self._contents(path).logins if path.exists() else ()
        return tuple(each for each in logins if (each.url, each.key) != (login.url, login.key))

    def _files(self) -> Iterator[Path]:
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return
        except OSError as problem:
            raise BadConfig(f"{self._folder} cannot be read: {problem}", fix="see whose it is") from None
        yield from (self._folder / name for name in names if name.endswith(".json"))

    def _contents(self, path: Path) -> Contents:
        try:
            with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
                found = os.fstat(file.fileno())
                signature = (found.st_mtime_ns, found.st_ino, found.st_size)
                if path not in self._read or self._read[path][0] != signature:
                    self._read[path] = (signature, parsed(path, file.read()))
        except OSError as problem:
            raise BadConfig(f"{path} cannot be read: {problem}", fix=move_away(path)) from None
        return self._read[path][1]

    def _write(self, path: Path, contents: Contents) -> None:
        try:
            self.create()
            write_private(path, contents.model_dump_json(exclude_none=True, indent=1))
        except OSError as problem:
            raise BadConfig(f"{path} cannot be written: {problem}", fix="see who may write there") from None

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as problem:
            raise BadConfig(f"{path} cannot be removed: {problem}", fix=f"remove it: rm {quoted(path)}") from None

    def _path(self, issuer: str) -> Path:
        # A name of one length, without anything that a server chose.
        return self._folder / f"{hashlib.sha256(issuer.rstrip('/').encode()).hexdigest()[:32]}.json"


def parsed(path: Path, text: bytes) -> Contents:
    try:
        return Contents.model_validate_json(text)
    except ValidationError:  # which shows what it did not like, and that may be a token
        raise BadConfig(
            f"{path}, where sign-ins are kept, is not what this version writes", fix=move_away(path)
        ) from None


def move_away(path: Path) -> str:
    return f"move it away, and sign in again: mv {quoted(path)} {quoted(path)}.old"
