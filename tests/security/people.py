"""A user who is not root, and others. Where root runs the tests, each is one; elsewhere the user is who runs them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.shell import PATIENCE, TASAK, Done, Shell

IS_ROOT = os.geteuid() == 0

OWNER = 50001 if IS_ROOT else os.geteuid()
STRANGER = 65534

as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can be two users")


def by(user: int, *, rights: str = "") -> list[str]:
    """What stands before a command so that this user runs it."""
    if not IS_ROOT:
        return []
    capabilities = [f"--inh-caps={rights}", f"--ambient-caps={rights}"] if rights else []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *capabilities, "--"]


def can_everybody_run(program: str) -> bool:
    folders = {*Path(program).parents, *Path(program).resolve().parents}
    return all(folder.stat().st_mode & 0o001 for folder in folders)


# The interpreter may lie where only root may look. None of these rights makes anybody the owner of a file.
LOOKING = "" if can_everybody_run(sys.executable) else "+dac_override,+dac_read_search"


class Home(Shell):
    """The home of OWNER, who types the commands."""

    def __init__(self) -> None:
        super().__init__()
        self.state = self.home / ".tasak"
        self.give(self.home)

    def __call__(self, *words: str, umask: int = 0o022, cwd: Path | None = None, **env: str) -> Done:  # type: ignore[override]
        return self.run([TASAK, *words], umask=umask, cwd=cwd or self.cwd, env={**self.env, **env})

    def run(self, command: Sequence[str | Path], **how: Any) -> Done:
        """Any command of OWNER's."""
        words = [*by(OWNER, rights=LOOKING), *command]
        how = {"env": self.env, "cwd": self.cwd, "stdin": subprocess.DEVNULL} | how
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False, **how)

    def configure(self, apps: dict[str, Any], folder: Path | None = None, **top: Any) -> Path:
        path = super().configure(apps, folder, **top)
        self.give(path.parent)
        self.give(path)
        return path

    def give(self, path: Path, user: int = OWNER) -> None:
        if IS_ROOT:
            os.chown(path, user, user, follow_symlinks=False)


def curl(user: int, socket: Path, path: str, **how: Any) -> Done:
    """A request of that user's to the daemon behind the socket."""
    words = ["curl", "-s", "-m", "10", "-w", "\n%{http_code}", "--unix-socket", str(socket), f"http://tasak{path}"]
    return subprocess.run([*by(user), *words], capture_output=True, text=True, timeout=PATIENCE, check=False, **how)
