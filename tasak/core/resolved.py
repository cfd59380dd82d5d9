"""Apps that were resolved for a caller, kept for as long as resolving them again would find the same."""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tasak.core.app import App
from tasak.core.sources import Look, look_of

# So many pairs of caller and app come again and again, even on a busy machine.
MEMORY = 256

Key: TypeAlias = tuple[str, Path | None, str | None, float | None]
"""The app's name, and of its caller: working directory, session, timeout."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One app, and all that it was made of: the caller's environment, and what the machine looked like."""

    app: App
    env: Mapping[str, str] = field(repr=False)
    looks: Sequence[tuple[str, Look]]
    directories: Sequence[Look]


class ResolvedApps:
    """Says whether all still looks as it did, for a few microseconds a path; what differs is resolved anew."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def find(self, key: Key, env: Mapping[str, str]) -> App | None:
        """The app, if nothing has changed that it depends on."""
        kept = self._kept.get(key)
        if kept is None or kept.env != env:
            return None
        if not all(looks_like(path, seen) for path, seen in kept.looks):
            return None
        return kept.app if directories_of(kept.app) == kept.directories else None

    def keep(self, key: Key, env: Mapping[str, str], paths: Sequence[str], looks: Sequence[Look], app: App) -> None:
        """Remember `app`, which was resolved after the `paths` were found to look like this."""
        if any(each.uses_keyring for each in app.whole()):
            self._kept.pop(key, None)
            return
        read = (item for each in app.whole() for item in each.looks.items())
        # A path that was seen twice may have changed in between: then both looks are kept, and never hold together.
        seen = dict.fromkeys([*zip(paths, looks, strict=True), *read])
        self._kept[key] = Kept(app, env, list(seen), directories_of(app))
        self._kept.move_to_end(key)
        if len(self._kept) > MEMORY:
            self._kept.popitem(last=False)


def looks_of(paths: Sequence[str]) -> list[Look]:
    return [look(path) for path in paths]


def look(path: str) -> Look:
    """What changes when the file does, or a folder gets or loses a member; None where there is nothing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return look_of(found)


def looks_like(path: str, seen: Look) -> bool:
    """Whether it looks as it did. Most have nothing there, which `access` says without an exception."""
    if seen is not None:
        return look(path) == seen
    try:
        return not os.access(path, os.F_OK)
    except ValueError:
        return True


def directories_of(app: App) -> list[Look]:
    return [identity(each.config.directory) for each in app.whole()]


def identity(folder: Path | None) -> Look:
    """What changes when another folder takes its place; what is in it does not matter."""
    seen = look(str(folder)) if folder else None
    return seen[:2] if seen else None
