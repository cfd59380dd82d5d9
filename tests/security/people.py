"""A user who is not root, and others. Where root runs the tests, each is one; elsewhere the user is who runs them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.shell import FAST_APP, PATIENCE, TASAK, Done, Shell

# One that lets us become somebody else by a command, too.
IS_ROOT = os.geteuid() == 0 and shutil.which("setpriv") is not None

# linux/capability.h
CAP_DAC_READ_SEARCH = 2

OWNER = 50001 if IS_ROOT else os.geteuid()
STRANGER = 65534

as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can be two users, on Linux")


def by(user: int, *, rights: str = "") -> list[str]:
    """What stands before a command so that this user runs it."""
    if not IS_ROOT:
        return []
    capabilities = [f"--inh-caps={rights}", f"--ambient-caps={rights}"] if rights else []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *capabilities, "--"]


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Whatever is opened, made or connected to meanwhile is that user's doing, as far as the kernel can tell."""
    if not IS_ROOT:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def can_everybody_run(program: str) -> bool:
    folders = {*Path(program).parents, *Path(program).resolve().parents}
    return all(folder.stat().st_mode & 0o001 for folder in folders)


def right_to_look() -> str:
    """The least of root's rights that leads to an interpreter where only root may look: as a rule to read, not write.

    In a container root may have the larger one alone. Neither makes anybody the owner of a file.
    """
    if can_everybody_run(sys.executable):
        return ""
    rights = re.search(r"CapPrm:\s*(\w+)", Path("/proc/self/status").read_text())
    has_first = rights and int(rights[1], 16) >> CAP_DAC_READ_SEARCH & 1
    return "+dac_read_search" if has_first else "+dac_override"


LOOKING = right_to_look() if IS_ROOT else ""

# Rights do not tell `which` that a program is there: it is asked for by a name that everybody finds.
OWN_APP = {**FAST_APP, "command": ["/usr/bin/env", *FAST_APP["command"]]}


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
