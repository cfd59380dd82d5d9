"""Which config files the user trusts, as they were then: a cloned repository must not quietly become your `linear`.

`~/.tasak/trusted.json` has a digest of each file's text. A file that has changed since has to be trusted anew.
"""

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasak import ownership
from tasak.core.app import Standing
from tasak.core.config_file import BrokenFile, ConfigFile, FileReader, SkippedFile
from tasak.core.config_text import parse
from tasak.core.config_walk import NAMES, Walk, folder_of
from tasak.errors import BadArguments, BadConfig, Busy
from tasak.locking import has_locked_by
from tasak.paths import StateDir, quoted, write_private

# A user who trusts more files than fit in here trusts anything.
MAX_BYTES = 10_000_000

# Others hold the lock for milliseconds; one that is stopped meanwhile runs this out.
LOCK_TIMEOUT = 5.0

Found = Literal["trusted", "changed", "gone"]
"""What has become of a file since it was trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """What is trusted, as it stood at one moment: the digest of each file's text by its place."""

    own: Path
    """The user's own file, which needs no trust."""
    digests: Mapping[str, str]

    def standing(self, file: ConfigFile) -> Standing:
        if file.path is None or file.path == self.own:
            return "own"
        digest = self.digests.get(place_of(file.path, file.folder))
        if digest is None:
            return "unknown"
        return "trusted" if digest == file.digest else "changed"


class TrustBook:
    """The user's own list, for the commands that show and change it."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._reader = FileReader(parse)
        self._walk = Walk(state_config=state.config, home=state.root.parent, reader=self._reader)

    def found(self) -> dict[str, Found]:
        """Each file that was trusted, and what has become of it."""
        return {place: self._found(Path(place), digest) for place, digest in sorted(self._digests().items())}

    def trust(self, path: Path) -> ConfigFile:
        """Trust the config file of the folder `path`, or the file of that name, as it is now.

        Raises:
            BadArguments: there is none.
            BadConfig: it cannot be read, or may not be; or the list cannot be written.
            Busy: another process has been changing the list for long.
        """
        file = self._file_at(path)
        assert file.path is not None
        with self._changing() as digests:
            digests[place_of(file.path, file.folder)] = file.digest
        return file

    def revoke(self, path: Path) -> list[str]:
        """Trust it no longer, whether it is there or not; the files that this has taken off the list.

        Raises:
            BadArguments: it was not trusted.
            BadConfig, Busy: as for `trust`.
        """
        with self._changing() as digests:
            gone = [place for place in places_at(path) if digests.pop(place, None)]
        if not gone:
            raise BadArguments(f"{path} was not trusted", fix="`tasak trust` lists what is")
        return gone

    def _file_at(self, path: Path) -> ConfigFile:
        for found in self._walk.at(path):
            match found:
                case ConfigFile():
                    return found
                case BrokenFile():
                    raise found.error()
                case SkippedFile():
                    raise BadConfig(found.notice, fix="what other users can change cannot be trusted")
        raise BadArguments(
            f"there is no tasak.yaml to trust at {path}", fix="name a project's folder; your own file needs no trust"
        )

    def _found(self, path: Path, digest: str) -> Found:
        file = self._reader.read(path, folder_of(path), is_users_own=False)
        if file is None:
            return "gone"
        return "trusted" if isinstance(file, ConfigFile) and file.digest == digest else "changed"

    def _digests(self) -> dict[str, str]:
        return read_digests(self._state.trusted)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """What is trusted, to be changed in the block: by one process at a time."""
        try:
            self._state.create()
            lock = os.open(self._state.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if not has_locked_by(lock, time.monotonic() + LOCK_TIMEOUT):
                    raise Busy("another process is changing what is trusted", fix="try again")
                before = self._digests()
                digests = dict(before)
                yield digests
                if digests != before:
                    write_private(self._state.trusted, json.dumps({"files": digests}, indent=2))
            finally:
                os.close(lock)
        except OSError as problem:
            raise BadConfig(
                f"{self._state.trusted} cannot be written: {problem.strerror}", fix="see who may write there"
            ) from problem


def read_digests(path: Path | None) -> dict[str, str]:
    """The digests by place. What is not there, is not ours alone or says something else trusts nothing."""
    try:
        said = json.loads(read_own(path)) if path else None
    except (OSError, ValueError, RecursionError):
        return {}
    match said:
        case {"files": dict(files)}:
            return {place: digest for place, digest in files.items() if isinstance(digest, str)}
    return {}


def read_own(path: Path) -> bytes:
    """The file's content. Its mode is looked at, and left: the home may be read-only.

    Raises:
        OSError: it cannot be read, or others have their hands on it.
    """
    # Not blocking: what is there may turn out to be a pipe.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        is_ours = stat.S_ISREG(found.st_mode) and ownership.is_trusted_owner(found.st_uid)
        if not is_ours or ownership.is_writable_by_others(found) or found.st_size > MAX_BYTES:
            raise PermissionError
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


def place_of(path: Path, folder: Path) -> str:
    """What a file is called whatever links lead to it. In another folder the same text would run other programs."""
    return os.path.join(os.path.realpath(folder), os.path.relpath(path, folder))


def places_at(path: Path) -> list[str]:
    """What the files that `path` may mean are called: those of a folder, or one itself."""
    return [*(f"{os.path.realpath(path)}/{name}" for name in NAMES), place_of(path, folder_of(path))]


def what_to_trust(path: Path) -> str:
    """What to write behind `tasak trust` for the config file at `path`."""
    folder = folder_of(path)
    is_found = str(path) in [f"{folder}/{name}" for name in NAMES]
    return quoted(folder if is_found else path)
