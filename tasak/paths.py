"""Where TASAK keeps its state, and who may look: one private folder, `~/.tasak`, per user."""

import contextlib
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from tasak.errors import BadConfig
from tasak.wire import SOCKET_NAME

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


def home() -> Path:
    """The user's home: `HOME`, or where that is unset, what the passwd database says.

    Raises:
        BadConfig: `HOME` is empty or relative, or there is no passwd entry.
    """
    found = os.environ.get("HOME")
    if found is None:
        try:
            found = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise BadConfig("HOME is not set and this user has no passwd entry", fix="set HOME") from None
    if not os.path.isabs(found):
        raise BadConfig(f"HOME is {found!r}, which is no absolute path", fix="set HOME to your home folder")
    return Path(found)


@dataclass(frozen=True, slots=True)
class StateDir:
    """The state folder and the names in it. Nothing is created before `create` is called."""

    root: Path

    @classmethod
    def of_user(cls) -> "StateDir":
        return cls(home() / ".tasak")

    @property
    def config(self) -> Path:
        return self.root / "tasak.yaml"

    @property
    def socket(self) -> Path:
        return self.root / SOCKET_NAME

    @property
    def pid_file(self) -> Path:
        return self.root / "daemon.pid"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    @property
    def lock(self) -> Path:
        """Held by the daemon for life: the only proof that one runs."""
        return self.root / "daemon.lock"

    @property
    def start_lock(self) -> Path:
        """Held by whoever is starting a daemon."""
        return self.root / "start.lock"

    @property
    def disabled(self) -> Path:
        """Any file of this name, whatever it is, turns auto-start off."""
        return self.root / "daemon.disabled"

    @property
    def is_disabled(self) -> bool:
        return os.path.lexists(self.disabled)

    def app_log(self, app: str) -> Path:
        """What the app's processes write on stderr. `app` is a checked name."""
        return self.root / "logs" / f"{app}.log"

    def create(self) -> None:
        """Make the folder, private whatever the umask is.

        Raises:
            BadConfig: it belongs to someone else, is a link, or others can write to it.
        """
        with contextlib.suppress(FileExistsError):  # what it is instead is told below
            self.root.mkdir(mode=PRIVATE_DIRECTORY, parents=True)
        found = os.lstat(self.root)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise BadConfig(
                f"{self.root} is not a folder of yours", fix=f"move it away: mv {self.root} {self.root}.old"
            )
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise BadConfig(
                f"others can write to {self.root} (mode {stat.S_IMODE(found.st_mode):o})",
                fix=f"chmod 700 {self.root}",
            )
        os.chmod(self.root, PRIVATE_DIRECTORY)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of our own file: created 0600 whatever the umask is, never through a link.

    Raises:
        OSError: it cannot be opened; ELOOP where it is a link.
        BadConfig: the file there belongs to someone else or has a second name.
    """
    fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_nlink != 1:
        os.close(fd)
        raise BadConfig(f"{path} is not a file of yours alone", fix=f"remove it: rm {path}")
    os.fchmod(fd, PRIVATE_FILE)
    return fd


def write_private(path: Path, text: str) -> None:
    """Replace the file whole: whoever reads it sees the old text or the new, never half of one."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    fd = open_private(scratch, os.O_WRONLY | os.O_TRUNC)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
