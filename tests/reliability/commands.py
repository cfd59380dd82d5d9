"""The command `tasak`, many times over: each is a fork of one process that has imported what commands import.

What differs from the installed command is the time: milliseconds instead of a quarter of a second, or of a whole one
where the call is made directly. As a program it listens on the Unix socket that it is given the path of, and runs the
command that each connection brings.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

# Longer than anything here takes on a busy machine.
PATIENCE = 60.0

# On its own path it has this package and ours.
PROGRAM = "from tests.reliability.commands import main; main()"


class Commands:
    """`with` starts and ends the process; commands may run at the same time, each in a thread of the caller's."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="tasak", dir="/tmp")
        self._path = Path(self._folder.name) / "commands.sock"
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, self._path], env=env, cwd="/", stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert b"ready\n" == self._process.stdout.readline()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def __call__(self, *words: str, env: Mapping[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        job = json.dumps({"words": words, "env": dict(env), "cwd": str(cwd)})
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self._path))
            connection.sendall(job.encode() + b"\n")
            with connection.makefile() as answer:
                return subprocess.CompletedProcess(words, **json.loads(answer.read()))


def main() -> None:
    # What a command imports on its way, and what a direct call does.
    import tasak.cli.daemon_commands
    import tasak.cli.direct
    import tasak.core.mcp_session
    import tasak.core.outcomes
    import tasak.transports.stdio  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for whoever sees to a connection
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen(1024)
        os.write(1, b"ready\n")
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                see_to(connection)
            connection.close()


def see_to(connection: socket.socket) -> NoReturn:
    """Run the command, and tell how it ended and what it wrote."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile() as lines, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        job = json.loads(lines.readline())
        pid = os.fork()
        if pid == 0:
            become(job, out.fileno(), err.fileno())
        _, status = os.waitpid(pid, 0)
        said = {name: os.pread(file.fileno(), 1 << 20, 0).decode() for name, file in (("stdout", out), ("stderr", err))}
        connection.sendall(json.dumps({"returncode": os.waitstatus_to_exitcode(status), **said}).encode())
    os._exit(0)


def become(job: Mapping[str, Any], out: int, err: int) -> NoReturn:
    from tasak.__main__ import main as command

    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(file, number)
    os.closerange(3, 256)
    sys.argv = ["tasak", *job["words"]]
    try:
        command()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else int(bool(end.code)))
    os._exit(0)
