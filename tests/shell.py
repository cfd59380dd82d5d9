"""A user at a shell: a home of their own, the installed command, and whatever daemon it starts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml

TASAK = Path(sys.executable).with_name("tasak")
STDIO_SERVER = Path(__file__).parents[1] / "tasak" / "testing" / "stdio_server.py"

# An app that starts in a few milliseconds.
FAST_APP = {"command": [sys.executable, "-I", "-S", str(STDIO_SERVER)]}

# Longer than anything here takes on a busy machine.
PATIENCE = 60.0
# What other processes do sets no event.
WAIT = 30.0
POLL_INTERVAL = 0.005

# Holds the lock of its first argument until its stdin ends.
LOCK_HOLDER = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""

Done = subprocess.CompletedProcess[str]


class Shell:
    """Runs `tasak …`. Nothing of the user who runs the tests reaches it but PATH. Ends its daemon when it is left."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: socket paths are short.
        self.home = Path(tempfile.mkdtemp(prefix="tasak", dir="/tmp"))
        self.cwd = self.home
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{TASAK.parent}:{os.environ['PATH']}",
            # One port cannot be that of all the daemons that tests run side by side.
            "TASAK_DAEMON_PORT": "off",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self("daemon", "stop")
            left = self.processes()
        finally:
            reap()
            shutil.rmtree(self.home)
        if kind is None:
            assert [] == left, "processes were left behind"

    def __call__(self, *words: str, stdin: str | None = None, cwd: Path | None = None, **env: str) -> Done:
        return self._run([TASAK, *words], env, stdin=stdin, cwd=cwd)

    def script(self, text: str, **env: str) -> Done:
        """What sh makes of it; `tasak` is a command there."""
        return self._run(["sh", "-c", text], env)

    def _run(
        self, words: Sequence[str | Path], env: Mapping[str, str], stdin: str | None = None, cwd: Path | None = None
    ) -> Done:
        return subprocess.run(
            words,
            env={**self.env, **env},
            cwd=cwd or self.cwd,
            stdin=subprocess.DEVNULL if stdin is None else None,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *words: str, **how: Any) -> "subprocess.Popen[bytes]":
        """The command, running."""
        how = {"env": self.env, "cwd": self.cwd, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
        return subprocess.Popen([TASAK, *words], **how)

    def json(self, *words: str, **how: Any) -> Any:
        """What `tasak --json …` prints, whatever its exit status."""
        done = self("--json", *words, **how)
        return json.loads(done.stdout)

    def configure(self, apps: dict[str, Any], folder: Path | None = None, **top: Any) -> Path:
        """Write a config with these apps: the user's own, or that of the project `folder`."""
        path = folder / "tasak.yaml" if folder else self.home / ".tasak" / "tasak.yaml"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"apps": apps, **top}))
        return path

    @property
    def daemon_pid(self) -> int:
        return int((self.home / ".tasak" / "daemon.pid").read_text())

    def processes(self) -> list[str]:
        """Every live process that has this home, except those that the tests themselves started and wait for."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:
                continue
        return found


def on_a_terminal(shell: Shell, *words: str) -> bytes:
    """What the command writes on its terminal."""
    ours, theirs = os.openpty()
    call = shell.start(*words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 65536):
            printed += piece
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
    call.communicate(timeout=PATIENCE)
    return printed


def reap() -> None:
    """Bury the daemons that a test started from this process, whose parent we are then."""
    for child in psutil.Process().children():
        if child.status() == psutil.STATUS_ZOMBIE:
            child.wait()


def until(holds: Callable[[], object], within: float = WAIT) -> float:
    """Wait for what another process does; how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, "it did not come to hold"
        time.sleep(POLL_INTERVAL)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hear_interrupts() -> None:
    """Whoever runs the tests in the background has SIGINT ignored, and we would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
