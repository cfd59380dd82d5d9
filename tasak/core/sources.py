"""Where the values of a config come from: the caller's environment, files of the user's own, the system's keyring."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tasak.auth.secret_file import read_own, required
from tasak.core.keyring import Keyring
from tasak.errors import BadConfig
from tasak.secret import Secret

Look: TypeAlias = tuple[int, ...] | None
"""What changes when a file does, or a folder gets or loses a member; None where there is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Those of one app, for one caller; and what was looked at of them."""

    env: Mapping[str, str] = field(repr=False)
    folder: Path = Path(os.path.sep)
    """Where a relative path of a file begins: the config file's folder."""
    home: Path = Path(os.path.sep)
    keyring: Keyring = field(default_factory=Keyring, repr=False)
    looks: dict[str, Look] = field(default_factory=dict)
    """The files that were read, and how each looked then."""
    entries: set[str] = field(default_factory=set)
    """Those of the keyring that were used."""

    def variable(self, name: str, where: str) -> str | None:
        """The value of a variable of the environment; None where that is unset. `where` names the app for a reader.

        Raises:
            BadConfig: it is no text.
        """
        value = self.env.get(name)
        return None if value is None else checked(value, f"{where}: the environment variable {name}")

    def file(self, path: str, where: str) -> Secret:
        """What the file holds, without the newline at its end.

        Raises:
            BadConfig: it cannot be read, it is empty, or others can use it.
        """
        place = Path(f"{self.home}{path[1:]}" if path.startswith("~/") else self.folder / path)
        what = f"{where}: the file of ${{file:{path}}}"
        text, found = read_own(place, what)
        self.looks[str(place)] = look_of(found)
        return required(checked(text.removesuffix("\n").removesuffix("\r"), what), place, what)

    def entry(self, name: str, where: str) -> Secret:
        """What the keyring holds under `service/name`.

        Raises:
            Unread: it has to be read first.
            BadConfig: that is no name of an entry.
        """
        self.entries.add(name)
        return Secret(checked(self.keyring.entry(name, where), f"{where}: the entry {name} of the keyring"))


def look_of(found: os.stat_result) -> Look:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def checked(value: str, what: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadConfig(f"{what} is not UTF-8") from None
    if "\0" in value:
        raise BadConfig(f"{what} has a NUL in it")
    return value
