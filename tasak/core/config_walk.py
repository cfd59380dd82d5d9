"""Which config files count for a caller, nearest first."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasak.core.config_file import AnyFile, ConfigFile, FileReader, SkippedFile, broken
from tasak.errors import BadConfig

NAMES = ("tasak.yaml", ".tasak/tasak.yaml")


class Walk:
    """From the caller's folder up to the root, and then the user's own file, which counts once."""

    def __init__(self, *, state_config: Path, home: Path, reader: FileReader) -> None:
        self.state_config = state_config
        self._home = home
        self._reader = reader

    def files(self, cwd: Path | None, named: str | None) -> Iterator[AnyFile]:
        """What is found for a caller in `cwd`; only the file `named`, where the caller names one.

        Raises:
            BadConfig: the file `named` is not there, or `cwd` is relative.
        """
        if cwd is not None and not cwd.is_absolute():
            raise BadConfig(f"the working directory {str(cwd)!r} is no absolute path")
        if named:
            yield self._named(named, cwd)
            return
        if cwd is not None and os.path.isdir(cwd):
            for folder in up_from(os.path.abspath(cwd)):
                yield from self._in_folder(folder)
        if own := self.own():
            yield own

    def candidates(self, cwd: Path | None, named: str | None) -> list[str]:
        """Every path at which `files` looks for the same caller, whether anything is there or not."""
        if named:
            return [str(named_path(named, cwd, self._home)), str(self.state_config)]
        folders = up_from(os.path.abspath(cwd)) if cwd is not None else ()
        return [*(f"{folder}/{name}" for folder in folders for name in NAMES), str(self.state_config)]

    def at(self, path: Path) -> Iterator[AnyFile]:
        """What is found in the folder `path`, or the file of that name; the user's own is not meant."""
        if os.path.isdir(path):
            yield from self._in_folder(os.path.abspath(path))
        elif not self._is_own(path) and (found := self._reader.read(path, folder_of(path), is_users_own=True)):
            yield found

    def defining(self, path: Path) -> AnyFile | None:
        """The file at `path`, whichever caller has named it or come by it."""
        return self.own() if self._is_own(path) else self._reader.read(path, folder_of(path), is_users_own=True)

    def defines(self, path: Path, app: str, so: Mapping[str, Any] | None) -> bool:
        """Whether the file at `path` has the app, and just `so`, where that is asked; or may have it, being broken."""
        found = self.defining(path)
        if so is not None and isinstance(found, ConfigFile):
            return bool(found.apps.get(app) == so)
        return found is not None and found.may_define(app)

    def own(self) -> AnyFile | None:
        """The user's own file, from home."""
        return self._reader.read(self.state_config, self._home, is_users_own=True)

    def _named(self, named: str, cwd: Path | None) -> AnyFile:
        path = named_path(named, cwd, self._home)
        found = self.defining(path)
        if found is None:
            raise BadConfig(f"TASAK_CONFIG names {path}, which is not there", fix="mend it or unset it")
        return found

    def _in_folder(self, folder: str) -> Iterator[AnyFile]:
        # Plain text until something is there: most folders have neither, and a warm call passes through them all.
        there = [Path(path) for name in NAMES if os.path.lexists(path := f"{folder}/{name}")]
        read = [found for path in there if not self._is_own(path) and (found := self._read(path))]
        yield from (found for found in read if isinstance(found, SkippedFile))
        ours = [found for found in read if not isinstance(found, SkippedFile)]
        if len(ours) > 1:
            yield broken(Path(folder), f"there are both {there[0]} and {there[1]}", "keep one of them")
        else:
            yield from ours

    def _read(self, path: Path) -> AnyFile | None:
        return self._reader.read(path, folder_of(path), is_users_own=False)

    def _is_own(self, path: Path) -> bool:
        """Whether it is the user's own file, by whatever name."""
        try:
            return path == self.state_config or os.path.samefile(path, self.state_config)
        except (OSError, ValueError):
            return False


def named_path(named: str, cwd: Path | None, home: Path) -> Path:
    """The file that `TASAK_CONFIG` names so.

    Raises:
        BadConfig: it is relative, and there is no working directory.
    """
    path = Path(f"{home}{named[1:]}" if named.startswith("~/") else named)
    if path.is_absolute():
        return path
    if cwd is None:
        raise BadConfig(f"TASAK_CONFIG is {named!r}, and there is no working directory", fix="name it absolutely")
    return Path(os.path.abspath(cwd / path))


def up_from(folder: str) -> Iterator[str]:
    while folder.strip("/"):
        yield folder
        folder = os.path.dirname(folder)
    yield ""


def folder_of(path: Path) -> Path:
    """Where the apps of the file at `path` run."""
    return path.parent.parent if path.parent.name == ".tasak" else path.parent
