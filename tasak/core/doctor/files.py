"""Files that others can read or write, and config files that do not count."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasak.core.config_file import BrokenFile, ConfigFile, FileReader, SkippedFile
from tasak.core.config_text import parse
from tasak.core.config_walk import Walk
from tasak.core.doctor.finding import Finding
from tasak.core.settings import CONFIG_VARIABLE
from tasak.errors import BadConfig
from tasak.logs import rotated
from tasak.paths import StateDir, mode_of, quoted
from tasak.wire import SOCKET_NAME

# Where mcp-remote keeps its tokens, whatever its version.
MCP_AUTH = ".mcp-auth"

OPEN = 0o077

# In bytes: a file of the log, and what a call with an id writes down.
LITTLE_ROOM = 1 << 20


def of_state(state: StateDir) -> Iterator[Finding]:
    """The state folder, and what is in it."""
    try:
        state.require_private()
    except BadConfig as problem:
        yield Finding.of("file", problem)
        return
    except OSError as problem:
        yield Finding("file", f"{state.root} cannot be looked at: {problem.strerror}", "see whose it is")
        return
    for path, found in members(state.root):
        yield from of_member(state, path, found)
    try:
        yield from of_room(state.root, os.statvfs(state.root if state.root.exists() else state.root.parent))
    except OSError:  # nobody says how much there is
        return


def of_room(folder: Path, found: os.statvfs_result) -> Iterator[Finding]:
    """Whether what is kept in the folder can still be written, given what the kernel has `found` of its file system."""
    # A file system that counts no blocks, or no files, is not full of them.
    is_full = found.f_blocks > 0 and found.f_bavail * found.f_frsize < LITTLE_ROOM
    if is_full or (found.f_files > 0 and found.f_favail == 0):
        yield Finding(
            "file", f"no room is left for {folder}: its file system is full", f"make room: df {quoted(folder)}"
        )


def members(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for where, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            path = Path(where, name)
            try:
                yield path, os.lstat(path)
            except OSError:  # it is gone again
                continue


def of_member(state: StateDir, path: Path, found: os.stat_result) -> Iterator[Finding]:
    files = (
        state.pid_file,
        state.log,
        *rotated(state.log),
        state.lock,
        state.start_lock,
        state.start_failed,
        state.outcomes,
        state.token,
    )
    # Whatever it is, it turns auto-start off; and who can read a config of the user's is the user's own business.
    # What was moved away is in nobody's way.
    if path in (state.disabled, state.config) or path.suffix == ".old":
        return
    is_socket = stat.S_ISSOCK(found.st_mode) and path.name == SOCKET_NAME
    is_folder = stat.S_ISDIR(found.st_mode) and path not in (*files, state.socket)
    if not (stat.S_ISREG(found.st_mode) or is_socket or is_folder):
        yield Finding("file", f"{path} is no file of ours", f"mv {quoted(path)} {quoted(path)}.old")
    elif stat.S_IMODE(found.st_mode) & OPEN:
        yield open_to_others(path, found, "700" if is_folder else "600")


def of_tokens(home: Path) -> Iterator[Finding]:
    """The folder in which mcp-remote keeps its tokens; those of ours are in the state folder."""
    folder = home / MCP_AUTH
    try:
        found = os.stat(folder)
    except OSError:
        return
    if stat.S_IMODE(found.st_mode) & OPEN:
        yield open_to_others(folder, found, "700")


def open_to_others(path: Path, found: os.stat_result, mode: str) -> Finding:
    what = f"{path} is open to others ({mode_of(found)})"
    return Finding("file", what, f"chmod {mode} {quoted(path)}")


def of_configs(state: StateDir, home: Path, cwd: Path | None, env: Mapping[str, str]) -> Iterator[Finding]:
    """The config files of a caller in `cwd` that are broken or passed over."""
    walk = Walk(state_config=state.config, home=home, reader=FileReader(parse))
    try:
        for found in walk.files(cwd, env.get(CONFIG_VARIABLE)):
            match found:
                case BrokenFile():
                    yield Finding.of("config", found.error())
                case SkippedFile():
                    yield Finding("config", found.notice, f"chown or remove {quoted(found.path)}")
                case ConfigFile(is_isolating=True):
                    return
    except BadConfig as problem:
        yield Finding.of("config", problem)
