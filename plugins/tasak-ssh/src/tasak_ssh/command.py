"""What the SSH server is asked to run, and what its stdin has to begin with.

Few servers accept variables that a client sets (`AcceptEnv`), none says so, and a command line is for everybody there
to read. So the variables are the first bytes on stdin, read by a shell that then becomes the command.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from tasak_ssh.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCommand:
    line: str
    """For the login shell."""
    preamble: bytes
    """What its stdin begins with, before the first message."""


def remote_command(options: Options) -> RemoteCommand:
    preamble = exports(options.env)
    if not preamble and not options.directory:
        return RemoteCommand(line=as_line(options.command), preamble=b"")
    steps = []
    if preamble:
        # dd, since it takes not a byte more than it is told to.
        steps.append(f'eval "$(dd bs=1 count={len(preamble)} 2>/dev/null)"')
    if options.directory:
        steps.append(f"cd {shlex.quote(from_home(options.directory))}")
    steps.append(f"exec {as_words(options.command)}")
    return RemoteCommand(line=f"exec sh -c {shlex.quote(' && '.join(steps))}", preamble=preamble)


def as_line(command: str | tuple[str, ...]) -> str:
    return command if isinstance(command, str) else shlex.join(command)


def as_words(command: str | tuple[str, ...]) -> str:
    """The same for `sh`; a string is for the login shell there, too."""
    return f'"${{SHELL:-/bin/sh}}" -c {shlex.quote(command)}' if isinstance(command, str) else shlex.join(command)


def exports(env: Mapping[str, str]) -> bytes:
    """Shell text that sets the variables, a line of its own even for a server that runs another command instead."""
    if not env:
        return b""
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
    return f"export {words}\n".encode("utf-8", "surrogateescape")


def from_home(directory: str) -> str:
    """A path that `cd` takes for nothing else: the session begins in the home directory."""
    if directory == "~":
        return "."
    relative = directory.removeprefix("~/")
    return relative if relative.startswith("/") else f"./{relative}"
