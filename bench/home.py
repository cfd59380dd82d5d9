"""A user of the benchmark's own: a home with a config, the installed command, and the daemon that it starts."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import psutil

import tasak
from tasak.client import stopper
from tasak.core.gateway import BUILTINS
from tasak.errors import DaemonAway
from tasak.paths import StateDir

TASAK = str(Path(sys.executable).with_name("tasak"))

# The app `stdlib` answers in microseconds, so that what is measured is ours.
STDLIB_SERVER = [sys.executable, "-I", "-S", str(Path(tasak.__file__).with_name("testing") / "stdio_server.py")]
DEMO_SERVER: list[str] = BUILTINS["demo"]["command"]  # type: ignore[assignment]  # the values of a config are anything

# What would change how Python or TASAK run, and with them the figures.
FOREIGN = ("PYTHON", "TASAK")

# Nothing refuses SIGKILL; what takes long is the kernel.
DYING = 5.0


class Failed(Exception):
    """What was to be measured did not work."""


class Home:
    """The caller's environment is that of whoever runs the benchmark, because its size counts, but for `HOME`."""

    def __init__(self) -> None:
        # Not the user's own TMPDIR: socket paths are short.
        self.folder = Path(tempfile.mkdtemp(prefix="tasak-bench", dir="/tmp"))
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.env = {**own, "HOME": str(self.folder), "TASAK_DAEMON_PORT": "off"}
        self.state = StateDir(self.folder / ".tasak")

    def __enter__(self) -> Self:
        self.state.create()
        self.configure({})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            with suppress(DaemonAway):
                self.stop_daemon()
            left = self._processes()
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=DYING)
        finally:
            shutil.rmtree(self.folder)

    def configure(self, apps: Mapping[str, Any], **top: Any) -> None:
        """Write a config with these apps beside `stdlib`."""
        # Whole at once: the daemon may be reading it.
        scratch = self.state.config.with_suffix(".new")
        scratch.write_text(json.dumps({"apps": {"stdlib": {"command": STDLIB_SERVER}, **apps}, **top}))
        scratch.replace(self.state.config)

    def answer(self, *command: str) -> str:
        """What the command prints.

        Raises:
            Failed: it failed, or had something to say on stderr.
        """
        with self._running(command, subprocess.PIPE) as [process]:
            assert process.stdout is not None
            return process.stdout.read().decode()

    def seconds(self, *command: str, at_once: int = 1) -> float:
        """From the start of the first process to the end of the last; stdout goes to /dev/null. Raises `Failed`."""
        began = perf_counter()
        with self._running(command, subprocess.DEVNULL, at_once) as running:
            for process in running:
                # Without a timeout: with one, Popen looks only every few milliseconds.
                process.wait()
            return perf_counter() - began

    def seconds_to_answer(self, *command: str) -> float:
        """From the start of the process to the first line that it prints. Raises `Failed`."""
        began = perf_counter()
        with self._running(command, subprocess.PIPE) as [process]:
            assert process.stdout is not None
            process.stdout.readline()
            return perf_counter() - began

    def daemon_memory(self) -> int:
        """Resident bytes."""
        return resident(int(self.state.pid_file.read_text()))

    def stop_daemon(self) -> None:
        """End the daemon, and wait until it is gone. Unlike `tasak daemon stop`, the next call may start another."""
        stopper.stop(self.state)

    @contextmanager
    def _running(
        self, command: Sequence[str], stdout: int, count: int = 1
    ) -> Iterator[list["subprocess.Popen[bytes]"]]:
        """So many processes of the command. Waits for their end, and raises `Failed` unless it is a good one."""
        running: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(count):
                process = subprocess.Popen(
                    command,
                    env=self.env,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=subprocess.PIPE,
                )
                running.append(process)
            yield running
            for process in running:
                _, complaint = process.communicate()
                require_success(command, process.returncode, complaint)
        finally:
            for process in running:
                process.kill()
                process.wait()

    def _processes(self) -> list[psutil.Process]:
        """Every live process that has this home."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("HOME") == str(self.folder):
                    found.append(process)
        return found


def resident(pid: int) -> int:
    memory: int = psutil.Process(pid).memory_info().rss
    return memory


def require_success(command: Sequence[str], status: int, complaint: bytes) -> None:
    if status or complaint:
        raise Failed(f"{' '.join(command)}: exit status {status}\n{complaint.decode(errors='replace')}")
