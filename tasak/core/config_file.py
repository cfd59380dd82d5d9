"""One config file: whether it may be read at all, and what it says, checked down to its apps."""

import os
import shlex
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tasak.core import ownership, settings
from tasak.core.app import Definition
from tasak.core.bad_text import BadText
from tasak.core.config_text import Parse
from tasak.core.nearest import nearest
from tasak.errors import BadConfig

# A config is written by hand; what is larger is something else.
MAX_BYTES = 10_000_000

# So many projects may one daemon see before it parses a file again.
MAX_CACHED = 256

# An editor that saves just now has taken the file's name away at most this often.
ATTEMPTS = 3

Signature: TypeAlias = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """What one file says. Its apps are not looked into: a bad one breaks only itself."""

    path: Path | None
    """None for the apps that exist without any file."""
    folder: Path
    """Where its apps run."""
    apps: Mapping[str, Any]
    settings: Mapping[str, settings.Value]
    is_isolating: bool = False
    """No farther file is read."""
    definitions: dict[str, Definition] = field(default_factory=dict, compare=False)
    """The apps that were looked into, so that each is checked once for as long as the file stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFile:
    """A file that says nothing, for the reason in `message`."""

    path: Path
    message: str
    fix: str | None

    def error(self) -> BadConfig:
        return BadConfig(self.message, fix=self.fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedFile:
    """A file of somebody else's, never opened."""

    path: Path
    notice: str


AnyFile: TypeAlias = ConfigFile | BrokenFile | SkippedFile


class FileReader:
    """Reads config files, and keeps what it parsed for as long as the file's stat stays the same."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._kept: dict[Path, tuple[Signature, ConfigFile | BrokenFile]] = {}

    def read(self, path: Path, folder: Path, *, is_users_own: bool) -> AnyFile | None:
        """What stands at `path`; None where there is nothing.

        One that is the user's own was asked for by its name or its place: foreign hands on it, or on what leads to
        it, are an error, not a reason to pass it over.
        """
        for _ in range(ATTEMPTS):
            with suppress(_Changed):
                return self._look(path, folder, is_users_own=is_users_own)
        return broken(path, f"{path} changes while it is read")

    def _look(self, path: Path, folder: Path, *, is_users_own: bool) -> AnyFile | None:
        try:
            link = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as problem:
            return unreadable(path, problem) if is_users_own else None
        if not ownership.is_trusted_owner(link.st_uid):
            return foreign(path, is_users_own=is_users_own)
        try:
            found = path.stat()
            return distrust(path, found, is_users_own=is_users_own) or self._content(path, folder, signature(found))
        except OSError as problem:
            # Not kept: it may pass without the file changing.
            return unreadable(path, problem)

    def _content(self, path: Path, folder: Path, now: Signature) -> ConfigFile | BrokenFile:
        kept = self._kept.get(path)
        if kept and kept[0] == now:
            return kept[1]
        self._kept.pop(path, None)
        if len(self._kept) >= MAX_CACHED:
            self._kept.pop(next(iter(self._kept)))
        content = self._read(path, folder, now)
        self._kept[path] = (now, content)
        return content

    def _read(self, path: Path, folder: Path, now: Signature) -> ConfigFile | BrokenFile:
        try:
            return content_of(self._parse(read_text(path, now)), path, folder)
        except BadText as problem:
            return broken(path, f"{path}: {problem}")
        except BadConfig as problem:
            return broken(path, f"{path}: {problem.message}", problem.fix)


class _Changed(Exception):
    """The file is not the one that was looked at."""


def signature(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def broken(path: Path, message: str, fix: str | None = None) -> BrokenFile:
    return BrokenFile(path=path, message=message, fix=fix)


def unreadable(path: Path, problem: OSError) -> BrokenFile:
    return broken(path, f"{path} cannot be read: {problem.strerror}")


def foreign(path: Path, *, is_users_own: bool) -> BrokenFile | SkippedFile:
    notice = f"{path} is not read: it belongs to another user"
    if is_users_own:
        return broken(path, notice, "put a file of your own in its place")
    return SkippedFile(path=path, notice=notice)


def distrust(path: Path, found: os.stat_result, *, is_users_own: bool) -> BrokenFile | SkippedFile | None:
    if not ownership.is_trusted_owner(found.st_uid):
        return foreign(path, is_users_own=is_users_own)
    if not stat.S_ISREG(found.st_mode):
        return broken(path, f"{path} is no regular file", "move it away")
    if not ownership.is_writable_by_others(found):
        return None
    notice = f"{path} is not read: other users can write to it"
    if is_users_own or found.st_uid == os.geteuid():
        return broken(path, notice, f"chmod go-w {shlex.quote(str(path))}")
    return SkippedFile(path=path, notice=notice)


def read_text(path: Path, expected: Signature) -> str:
    # Not blocking: since the look at it, a FIFO without a writer may have taken its place.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
        if signature(os.fstat(file.fileno())) != expected:
            raise _Changed
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadText(f"it is larger than {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadText(f"it is not UTF-8 at byte {problem.start}") from None


def content_of(raw: object, path: Path, folder: Path) -> ConfigFile:
    """Check the parsed text `raw`.

    Raises:
        BadConfig: what is wrong in it; the message leaves the file's name to the caller.
    """
    top = mapping(raw, "the file")
    check_keys(top)
    isolate = top.get("isolate", False)
    if not isinstance(isolate, bool):
        raise BadConfig("'isolate' has to be true or false")
    return ConfigFile(
        path=path,
        folder=folder,
        apps=apps_of(mapping(top.get("apps"), "'apps'"), mapping(top.get("mcpServers"), "'mcpServers'")),
        settings=settings.of_file(mapping(top.get("settings"), "'settings'")),
        is_isolating=isolate,
    )


def mapping(raw: object, what: str) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise BadConfig(f"{what} has to be a mapping")
    return raw


def check_keys(top: Mapping[str, Any]) -> None:
    known = ("apps", "mcpServers", "settings", "isolate")
    for key in top:
        # A place for what only anchors refer to, and for an editor's schema.
        if key not in known and not key.startswith(("x-", "_", "$")):
            close = nearest(key, known)
            fix = f"did you mean {close!r}?" if close else f"there are: {', '.join(known)}"
            raise BadConfig(f"unknown key {key!r}", fix=fix)


def apps_of(apps: Mapping[str, Any], servers: Mapping[str, Any]) -> dict[str, Any]:
    for name in apps:
        if name in servers:
            raise BadConfig(f"app {name!r} is defined twice, under 'apps' and under 'mcpServers'")
    return {**apps, **servers}
