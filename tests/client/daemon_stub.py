"""A small honest daemon: a real Unix socket that speaks raw HTTP, one script for each connection."""

import os
import select
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

GO_AHEAD = b"HTTP/1.1 100 Continue\r\n\r\n"

# Longer than anything here takes, so that a bug fails and does not hang.
PATIENCE = 20.0


class Caller:
    """One connection, as the script sees it; what came is kept for the test."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.connection = connection
        self.head = b""
        self.body = b""
        self.has_hung_up = threading.Event()

    def read_head(self) -> None:
        while not self.head.endswith(b"\r\n\r\n"):
            came = self.connection.recv(1)
            if not came:
                raise EOFError(f"hung up in the head, after {self.head!r}")
            self.head += came

    def read_body(self) -> None:
        left = int(self.header("Content-Length"))
        while len(self.body) < left:
            came = self.connection.recv(left - len(self.body))
            if not came:
                raise EOFError("hung up in the body")
            self.body += came

    def header(self, name: str) -> str:
        (value,) = [line[len(name) + 2 :] for line in self.head.decode().split("\r\n") if line.startswith(f"{name}: ")]
        return value

    def send(self, message: bytes) -> None:
        self.connection.sendall(message)

    def wait_for_hang_up(self) -> None:
        """Whatever still comes is kept as body."""
        try:
            while came := self.connection.recv(1 << 16):
                self.body += came
        except ConnectionResetError:
            pass
        self.has_hung_up.set()


Script = Callable[[Caller], None]


class DaemonStub:
    """Listens in a home of its own; `callers` holds every connection that ever came."""

    def __init__(self, script: Script) -> None:
        # Not pytest's tmp_path: socket paths are short.
        self.home = Path(tempfile.mkdtemp(prefix="tasak", dir="/tmp"))
        self.path = self.home / ".tasak" / "daemon.sock"
        self.path.parent.mkdir()
        self.callers: list[Caller] = []
        self._script = script
        self._failure: Exception | None = None
        self._stop, self._stopped = socket.socketpair()
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stop.close()
        self._thread.join(2 * PATIENCE)
        self._listener.close()
        self._stopped.close()
        shutil.rmtree(self.home)
        if self._failure is not None:
            raise self._failure

    @property
    def caller(self) -> Caller:
        (only,) = self.callers
        return only

    def _serve(self) -> None:
        while self._listener in select.select([self._listener, self._stopped], [], [])[0]:
            connection, _ = self._listener.accept()
            with connection:
                caller = Caller(connection)
                self.callers.append(caller)
                try:
                    self._script(caller)
                except Exception as failure:  # noqa: BLE001  # any bug of a script is raised in the test
                    self._failure = failure
                    return


def answer(reply: bytes) -> Script:
    """Let the body come, then send `reply` and hang up."""

    def script(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.read_body()
        caller.send(reply)

    return script


def plain(body: bytes, *, status: int = 0, more: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nTasak-Exit: {status}\r\n{more}\r\n"
    return head.encode() + body


def listen_as(uid: int, path: Path) -> socket.socket:
    """A listening socket of another user, which is what `SO_PEERCRED` shows; root alone can make one."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    os.seteuid(uid)
    try:
        listener.listen()
    finally:
        os.seteuid(0)
    return listener
