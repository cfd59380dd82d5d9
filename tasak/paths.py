"""Where TASAK keeps its state, and who may look: one private folder, `~/.tasak`, per user."""

import contextlib
import errno
import os
import pwd
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from tasak import ownership
from tasak.errors import BadConfig
from tasak.wire import SOCKET_NAME

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600

# Nothing is below it, and not even root can make something there.
NO_HOME = Path("/dev/null")

# In digits: more are none.
LONGEST_PID = 10

# What opening says of a link, of a pipe or socket that nobody reads from, and of a folder.
NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EISDIR)


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

    @classmethod
    def of_nobody(cls) -> "StateDir":
        """That of a user without a home, who has no state and no config of their own."""
        return cls(NO_HOME / ".tasak")

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
    def start_failed(self) -> Path:
        """Why the daemon did not start, while it does not."""
        return self.root / "start.failed"

    @property
    def token(self) -> Path:
        """What a caller over TCP shows; another with each start of the daemon."""
        return self.root / "daemon.token"

    @property
    def trusted(self) -> Path:
        """The config files that the user trusts."""
        return self.root / "trusted.json"

    @property
    def disabled(self) -> Path:
        """Any file of this name, whatever it is, turns auto-start off."""
        return self.root / "daemon.disabled"

    @property
    def is_disabled(self) -> bool:
        return os.path.lexists(self.disabled)

    @property
    def auth(self) -> Path:
        """The folder of what signing in has left: tokens and registrations."""
        return self.root / "auth"

    @property
    def tools(self) -> Path:
        """The folder of what apps' tools were when they were last seen."""
        return self.root / "tools"

    @property
    def outcomes(self) -> Path:
        """The journal of calls that have an id."""
        return self.root / "outcomes.jsonl"

    def app_log(self, app: str) -> Path:
        """What the app's processes write on stderr. `app` is a checked name."""
        return self.root / "logs" / f"{app}.log"

    def create(self) -> None:
        """Make the folder, private whatever the umask is.

        Raises:
            BadConfig: as for `require_private`.
        """
        make_private(self.root)

    def require_private(self) -> None:
        """See that nobody else decides what is in the folder; where there is none, nothing is.

        Raises:
            BadConfig: it belongs to someone else, is a link, or others can write to it or to the home that it is in.
        """
        with contextlib.suppress(FileNotFoundError):
            require_private(self.root)

    def last_pid(self) -> int | None:
        """The process that the pid file names: a hint of which daemon runs, or ended without taking the file along."""
        try:
            text = read_private(self.pid_file).strip()
        except (OSError, BadConfig):
            return None
        is_number = text.isascii() and text.isdigit() and len(text) <= LONGEST_PID
        return (int(text) or None) if is_number else None

    def disable(self) -> None:
        """Have no call start a daemon. Whatever stands there already will do; nothing is followed.

        Raises:
            BadConfig: as for `create`.
        """
        self.create()
        if not self.is_disabled:
            os.close(open_private(self.disabled, os.O_WRONLY))

    def enable(self) -> None:
        """Let calls start a daemon.

        Raises:
            BadConfig: as for `create`; or a folder of that name is in the way.
        """
        self.create()
        try:
            self.disabled.unlink(missing_ok=True)
        except (IsADirectoryError, PermissionError):  # macOS says the latter of a folder
            raise not_a_file(self.disabled) from None


def make_private(folder: Path) -> None:
    """Make a folder that is ours alone whatever the umask is, or see that the one there is.

    Raises:
        BadConfig: it belongs to someone else, is a link, or others can write to it or to the folder that it is in.
    """
    with contextlib.suppress(FileExistsError):  # what it is instead is told below
        folder.mkdir(mode=PRIVATE_DIRECTORY, parents=True)
    require_private(folder)
    os.chmod(folder, PRIVATE_DIRECTORY)


def require_private(folder: Path) -> None:
    """
    Raises:
        BadConfig: as for `make_private`.
    """
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise BadConfig(f"{folder} is not a folder of yours", fix=move_away(folder))
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise BadConfig(f"others can write to {folder} ({mode_of(found)})", fix=f"chmod 700 {quoted(folder)}")
    above = os.stat(folder.parent)
    if above.st_uid not in (os.getuid(), 0):
        raise BadConfig(
            f"{folder.parent}, where {folder.name} is, belongs to another user", fix="set HOME to a folder of yours"
        )
    if ownership.can_others_change(above):
        raise BadConfig(
            f"others can write to {folder.parent} ({mode_of(above)}), and so replace {folder}",
            fix=f"chmod go-w {quoted(folder.parent)}",
        )


def open_private(path: Path, flags: int) -> int:
    """A descriptor of our own file: created 0600 whatever the umask is, never through a link.

    Raises:
        OSError: it cannot be opened.
        BadConfig: what is there is no file, belongs to someone else or has a second name.
    """
    return open_own(path, flags | os.O_CREAT)


def open_own(path: Path, flags: int) -> int:
    """The same for one that is there; what others could read is theirs no longer. `flags` do not truncate: what is
    there may turn out to be somebody else's.
    """
    try:
        # Not blocking: a pipe would have us wait for whoever is at its other end.
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as problem:
        if problem.errno in NO_FILE:
            raise not_a_file(path) from None
        raise
    try:
        close_to_others(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def close_to_others(fd: int, path: Path) -> None:
    """
    Raises:
        BadConfig: as for `open_private`.
    """
    found = os.fstat(fd)
    # It may have no name any more: `write_private` has put another in its place meanwhile.
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_nlink > 1:
        raise not_a_file(path)
    # Else nothing is written: the home may be read-only.
    if stat.S_IMODE(found.st_mode) != PRIVATE_FILE:
        os.fchmod(fd, PRIVATE_FILE)


def read_private(path: Path) -> str:
    """The text of our own file.

    Raises:
        OSError, BadConfig: as for `open_own`.
    """
    with os.fdopen(open_own(path, os.O_RDONLY), encoding="utf-8", errors="replace") as file:
        return file.read()


def write_private(path: Path, text: str) -> None:
    """Replace the file whole: whoever reads it sees the old text or the new, never half of one.

    Raises:
        OSError: it cannot be written; nothing has changed then.
        BadConfig: a folder is in the way.
    """
    # Not to be known beforehand, and made by us: a link of that name would lead to somebody else's file.
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = open_private(scratch, os.O_WRONLY | os.O_EXCL)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException as problem:
        os.unlink(scratch)
        if isinstance(problem, IsADirectoryError):
            raise not_a_file(path) from None
        raise


def not_a_file(path: Path) -> BadConfig:
    return BadConfig(f"{path} is not a file of yours alone", fix=move_away(path))


def move_away(path: Path) -> str:
    return f"move it away: mv {quoted(path)} {quoted(path)}.old"


def quoted(path: Path) -> str:
    return shlex.quote(os.fspath(path))


def mode_of(found: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(found.st_mode):o}"
