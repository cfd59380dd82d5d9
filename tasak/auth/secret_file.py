"""A secret that the user keeps in a file: read anew each time, since whoever wrote it may write it again."""

import os
import stat
from pathlib import Path

from tasak.errors import BadConfig
from tasak.ownership import ROOT, is_trusted_owner, is_writable_by_others
from tasak.paths import quoted
from tasak.secret import Secret

# A token or a key is a few kilobytes at the most.
LIMIT = 64 * 1024

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path, what: str) -> Secret:
    """The file's text, without the white space around it. `what` begins a message about it.

    Raises:
        BadConfig: there is none, it is no text file of a reasonable size, or others can use it.
    """
    text, _ = read_own(path, what)
    return required(text.strip(), path, what)


def read_own(path: Path, what: str) -> tuple[str, os.stat_result]:
    """The file's text, and how the file looked when it was read. Raises as `read_secret`."""
    try:
        return read(path)
    except Unfit:
        raise BadConfig(f"{what} is no plain file of a reasonable size: {path}", fix="name another file") from None
    except Foreign:
        raise BadConfig(f"{what} belongs to another user: {path}", fix="put a file of your own in its place") from None
    except Open as problem:
        raise BadConfig(
            f"{what} can be used by others (mode {problem}): {path}", fix=f"{problem.fix} {quoted(path)}"
        ) from None
    except UnicodeDecodeError:  # which has the secret in it
        raise BadConfig(f"{what} is no text: {path}", fix="name another file") from None
    except (OSError, ValueError) as problem:
        raise BadConfig(f"{what} cannot be read: {problem}", fix=f"see whether {path} is there and yours") from None


def required(text: str, path: Path, what: str) -> Secret:
    """
    Raises:
        BadConfig: it is empty, as a file is that is being written.
    """
    if not text:
        raise BadConfig(f"{what} is empty: {path}", fix="write the secret into it")
    return Secret(text)


class Unfit(Exception):
    """Not what anyone would keep a secret in."""


class Foreign(Exception):
    """Somebody else can write another secret there."""


class Open(Exception):
    """Others may read it, or write to it. `fix` is the command that mends it."""

    def __init__(self, mode: int, fix: str) -> None:
        super().__init__(f"{stat.S_IMODE(mode):o}")
        self.fix = fix


def read(path: Path) -> tuple[str, os.stat_result]:
    if not is_trusted_owner(os.lstat(path).st_uid):  # a link, perhaps
        raise Foreign
    # Not blocking: the path may turn out to be a pipe, which is refused before it is read.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LIMIT:
            raise Unfit
        refuse_open(found)
        return os.read(fd, LIMIT).decode("utf-8"), found
    finally:
        os.close(fd)


def refuse_open(found: os.stat_result) -> None:
    """Who may read what root keeps for a user, as containers do, is root's to decide; who may write to it is not."""
    if found.st_uid == os.geteuid():
        if found.st_mode & OTHERS:
            raise Open(found.st_mode, "chmod 600")
    elif found.st_uid != ROOT:
        raise Foreign
    elif is_writable_by_others(found):
        raise Open(found.st_mode, "have root run: chmod go-w")
