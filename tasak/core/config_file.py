"""One config file: whether it may be read at all, and what it says, checked down to its apps."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from tasak import ownership
from tasak.core import settings
from tasak.core.app import Definition
from tasak.core.bad_text import BadText
from tasak.core.config_text import Parse
from tasak.core.digest import digest
from tasak.core.nearest import nearest
from tasak.errors import BadConfig
from tasak.paths import quoted

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
    apps: Mapping[str, Any] = field(repr=False)
    settings: Mapping[str, settings.Value]
    is_isolating: bool = False
    """No farther file is read."""
    digest: str = field(default="", compare=False)
    """Of its text."""
    definitions: dict[str, Definition] = field(default_factory=dict, compare=False)
    """The apps that were looked into, so that each is checked once for as long as the file stays as it is."""

    def may_define(self, app: str) -> bool:
        return app in self.apps


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFile:
    """A file that says nothing, for the reason in `message`."""

    path: Path
    message: str
    fix: str | None
    text: str | None = field(default=None, repr=False, compare=False)
    """What stands in it, if that could be read."""

    def error(self) -> BadConfig:
        return BadConfig(self.message, fix=self.fix)

    def may_define(self, app: str) -> bool:
        return self.text is None or app in self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedFile:
    """A file of somebody else's, never opened."""

    path: Path
    notice: str

    def may_define(self, app: str) -> bool:
        return False


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
            distrusted = distrust(path, found, folder, is_users_own=is_users_own)
            return distrusted or self._content(path, folder, signature(found))
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
        text = None
        try:
            text = read_text(path, now)
            return replace(content_of(self._parse(text), path, folder), digest=digest(text))
        except BadText as problem:
            return broken(path, f"{path}: {problem}", text=text)
        except BadConfig as problem:
            return broken(path, f"{path}: {problem.message}", problem.fix, text=text)


class _Changed(Exception):
    """The file is not the one that was looked at."""


def signature(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def broken(path: Path, message: str, fix: str | None = None, *, text: str | None = None) -> BrokenFile:
    return BrokenFile(path=path, message=message, fix=fix, text=text)


def unreadable(path: Path, problem: OSError) -> BrokenFile:
    return broken(path, f"{path} cannot be read: {problem.strerror}")


def foreign(path: Path, *, is_users_own: bool) -> BrokenFile | SkippedFile:
    notice = f"{path} is not read: it belongs to another user"
    if is_users_own:
        return broken(path, notice, "put a file of your own in its place")
    return SkippedFile(path=path, notice=notice)


def distrust(path: Path, found: os.stat_result, folder: Path, *, is_users_own: bool) -> BrokenFile | SkippedFile | None:
    if not ownership.is_trusted_owner(found.st_uid):
        return foreign(path, is_users_own=is_users_own)
    if not stat.S_ISREG(found.st_mode):
        return broken(path, f"{path} is no regular file", "move it away")
    exposed = exposed_place(path, found, folder)
    if exposed is None:
        return None
    place, mode = exposed
    notice = f"{path} is not read: other users can write to {'it' if place == path else place} (mode {mode:o})"
    if is_users_own or found.st_uid == os.geteuid():
        return broken(path, notice, f"chmod go-w {quoted(place)}")
    return SkippedFile(path=path, notice=notice)


def exposed_place(path: Path, found: os.stat_result, folder: Path) -> tuple[Path, int] | None:
    """The file, the folder that it is in or the one that its apps run in: the first where others can write; its mode.

    Of a folder that a group shares the owners of what is in it tell enough; in one that is everybody's they do not:
    many programs read what lies where they run.
    """
    if ownership.is_writable_by_others(found):
        return path, stat.S_IMODE(found.st_mode)
    for place in (path.parent, folder):
        if ownership.is_everybodys(there := place.stat()):
            return place, stat.S_IMODE(there.st_mode)
    return None


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
