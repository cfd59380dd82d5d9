"""Where the lock of an app's tools is, and how it is written: a JSON file for each app.

What was seen last is in the state folder. Beside the config that defines the app, in a folder of its own, is what
`tasak lock` was told to accept: it goes into the project's repository, and counts for all who work on it.
"""

import contextlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasak import ownership
from tasak.core.digest import digest
from tasak.core.tool_diff import Lock, LockedTool, canonical, sha256
from tasak.errors import BadConfig
from tasak.inert import inert_json
from tasak.paths import StateDir, make_private, mode_of, move_away, not_a_file, quoted, read_private, write_private

VERSION = 1

# More than all definitions that are kept can come to.
LARGEST_FILE = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFiles:
    """The files of one app."""

    app: str
    seen: Path
    difference: Path
    """The last change, whole: for whoever was shown its beginning."""
    accepted: Path | None
    """The project's; None where the app is not a project's."""
    _state: StateDir

    @classmethod
    def of(cls, state: StateDir, app: str, file: Path | None) -> "LockFiles":
        """Those of the app that `file` defines: other files may define others of its name."""
        own = f"{app}-{digest(app, str(file))[:12]}"
        return cls(
            app=app,
            seen=state.tools / f"{own}.json",
            difference=state.tools / f"{own}.diff",
            accepted=file.with_suffix(".lock") / f"{app}.json" if file and file != state.config else None,
            _state=state,
        )

    @property
    def counting(self) -> Path:
        """The one that says what is accepted."""
        return self.accepted if self.accepted and os.path.lexists(self.accepted) else self.seen

    def read_seen(self) -> Lock | None:
        """What was seen last; None where nothing was.

        Raises:
            BadConfig: there is something else than we wrote.
        """
        return self._read(self.seen, read_private)

    def read_accepted(self) -> Lock | None:
        """What the project accepts; None where it says nothing.

        Raises:
            BadConfig: the file is broken, or others could have written it.
        """
        return self._read(self.accepted, read_shared) if self.accepted else None

    def write_seen(self, lock: Lock) -> None:
        """
        Raises:
            OSError, BadConfig: it cannot be written.
        """
        self._prepare()
        write_private(self.seen, as_text(self.app, lock))

    def write_difference(self, text: str) -> None:
        """Raises as `write_seen` does."""
        self._prepare()
        write_private(self.difference, text)

    def write_accepted(self, lock: Lock) -> Path:
        """Write what counts from now on; where to.

        Raises:
            OSError, BadConfig: as above.
        """
        if self.accepted is None:
            self.write_seen(lock)
            return self.seen
        make_own(self.accepted.parent)
        write_private(self.accepted, as_text(self.app, lock))
        return self.accepted

    def _prepare(self) -> None:
        self._state.create()
        make_private(self._state.tools)

    def _read(self, path: Path, read: Callable[[Path], str]) -> Lock | None:
        fix = f"`tasak lock {self.app}` writes it anew"
        try:
            return parsed(read(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as problem:
            raise BadConfig(f"{path} cannot be read: {problem.strerror}", fix=f"see whether {path} is yours") from None
        except (ValueError, RecursionError) as problem:
            raise BadConfig(f"{path}, the lock of {self.app}'s tools, is broken: {problem}", fix=fix) from None


def as_text(app: str, lock: Lock) -> str:
    """
    Raises:
        BadConfig: it is too large to be kept.
    """
    tools = {name: as_json(tool) for name, tool in lock.items()}
    document = {"version": VERSION, "app": app, "tools": tools}
    # Nothing in it deceives who reviews it.
    text = inert_json(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"
    if len(text) > LARGEST_FILE:
        raise BadConfig(f"{app}: its tools are too many to be kept: {len(tools)}")
    return text


def as_json(tool: LockedTool) -> dict[str, Any]:
    return {
        "sha256": tool.sha256,
        **({"definition": tool.definition} if tool.definition is not None else {}),
        **({"gone": True} if tool.is_gone else {}),
    }


def parsed(text: str) -> Lock:
    """
    Raises:
        ValueError: it is no lock; the message says why.
    """
    match json.loads(text):
        case {"version": 1, "tools": dict(tools)}:
            return {name: locked_tool(name, tool) for name, tool in tools.items()}
    raise ValueError("it is none that this version of TASAK knows")


def locked_tool(name: str, written: object) -> LockedTool:
    match written:
        case {"sha256": str(digest_of_it), **rest}:
            definition = rest.get("definition")
            if isinstance(definition, Mapping) and sha256(canonical(definition)) != digest_of_it:
                raise ValueError(f"the definition of {name!r} is not the one of its sha256")
            if definition is None or isinstance(definition, Mapping):
                return LockedTool(sha256=digest_of_it, definition=definition, is_gone=rest.get("gone") is True)
    raise ValueError(f"{name!r} is no locked tool")


def read_shared(path: Path) -> str:
    """The text of a project's file, whose mode is none of our business as long as nobody else can write to it.

    Raises:
        OSError: it cannot be read.
        BadConfig: it is a link or no file, or others could have written it.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or not ownership.is_trusted_owner(found.st_uid):
            raise not_a_file(path)
        if ownership.is_writable_by_others(found):
            raise BadConfig(f"others can write to {path} ({mode_of(found)})", fix=f"chmod go-w {quoted(path)}")
        with os.fdopen(fd, encoding="utf-8", closefd=False) as file:
            return file.read(LARGEST_FILE)
    finally:
        os.close(fd)


def make_own(folder: Path) -> None:
    """Make the folder; the one there is may be no link: a repository can have one that leads out of it.

    Raises:
        OSError: it cannot be made.
        BadConfig: it is not a folder of ours.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise BadConfig(f"{folder} is not a folder of yours", fix=move_away(folder))
