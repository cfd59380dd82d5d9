"""A server that brings a family along: processes that outlive it if they are let, each in a way of its own.

Run as `python -I -S family.py SURNAME KIND…`, it starts one relative of each kind, then serves as `stdio_server` does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SERVER = Path(__file__).parents[1] / "tasak" / "testing" / "stdio_server.py"

# Nobody goes for being asked. The surname is among its words, so that one without an environment is known too.
RELATIVE = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n    time.sleep(1000)"


def relative(surname: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", RELATIVE, surname]


def grand(surname: str) -> None:
    """Has the server's streams."""
    subprocess.Popen(relative(surname))


def grandnull(surname: str) -> None:
    """Has streams of its own."""
    subprocess.Popen(relative(surname), **silent())


def grandsid(surname: str) -> None:
    """Has a session of its own."""
    subprocess.Popen(relative(surname), **silent(), start_new_session=True)


def bare(surname: str) -> None:
    """Has a session of its own, and no environment to know it by."""
    subprocess.Popen(relative(surname), **silent(), start_new_session=True, env={})


def daemonised(surname: str) -> None:
    """Has left its session, and lost its parent."""
    if child := os.fork():
        os.waitpid(child, 0)
        return
    os.setsid()
    subprocess.Popen(relative(surname), **silent())
    os._exit(0)


def silent() -> dict[str, int]:
    return dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


KINDS: dict[str, Callable[[str], None]] = {
    each.__name__: each for each in (grand, grandnull, grandsid, bare, daemonised)
}


def main(surname: str, *kinds: str) -> None:
    is_stubborn = "stubborn" in kinds
    if is_stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for kind in kinds:
        if kind in KINDS:
            KINDS[kind](surname)
    exec(compile(SERVER.read_text(), SERVER, "exec"), {"__name__": "__main__"})
    while is_stubborn:
        time.sleep(1000)


class Family:
    """Whoever has the surname among its words."""

    def __init__(self, surname: str) -> None:
        self.surname = surname

    def command(self, *kinds: str) -> list[str]:
        return [sys.executable, "-I", "-S", __file__, self.surname, *kinds]

    def living(self) -> list[int]:
        """The pids of all, the server among them."""
        return sorted(self._pids(self.surname))

    def relatives(self) -> list[int]:
        """The pids of those that the server has started."""
        return sorted(self._pids(self.surname, RELATIVE))

    def _pids(self, *words: str) -> Iterator[int]:
        import psutil

        for process in psutil.process_iter():
            try:
                if set(words) <= set(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    yield process.pid
            except psutil.Error:
                continue


if __name__ == "__main__":
    main(*sys.argv[1:])
