"""A daemon of OWNER's that listens at both doors, with an app that notes each call, and ways to ask it anything."""

import json
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.security.people import OWN_APP, OWNER, Home, acting_as
from tests.shell import until

# Longer than anything here takes on a busy machine.
PATIENCE = 30.0

CALL = "/tools/call/fast"
GOOD = b'{"tool": "echo", "arguments": {"text": "hello"}}'
JSON = {"Content-Type": "application/json"}

Headers = Mapping[str, str] | list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """That of the error, if it is one that says so."""
        return str(json.loads(self.body)["error"]["code"]) if self.status >= 400 and self.body else ""


class Front:
    """Whoever asks is OWNER, if it does not say otherwise."""

    def __init__(self, shell: Home, **env: str) -> None:
        self.shell = shell
        self.is_strict = not env
        """Whether what is no HTTP is refused at once, rather than waited for until its time is over."""
        shell.env.update(env)
        self.port = free_port()
        self.witness = shell.home / "exec"
        self.socket = shell.state / "daemon.sock"
        self.token_file = shell.state / "daemon.token"
        shell.env["TASAK_DAEMON_PORT"] = str(self.port)
        shell.configure({"fast": {**OWN_APP, "env": {"EXEC": str(self.witness)}}})
        assert 0 == shell("daemon", "start").returncode
        until(self.token_file.exists)

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    @property
    def executions(self) -> int:
        return len(self.witness.read_text().split()) if self.witness.exists() else 0

    @contextmanager
    def modes(self, *, folder: int = 0o755, socket: int = 0o666, token: int = 0o600) -> Iterator[None]:
        """What keeps other users out is taken away meanwhile, but for the token's."""
        wanted = {self.shell.home: 0o755, self.shell.state: folder, self.socket: socket, self.token_file: token}
        before = {path: stat.S_IMODE(path.stat().st_mode) for path in wanted}
        for path, mode in wanted.items():
            path.chmod(mode)
        try:
            yield
        finally:
            for path, mode in before.items():
                path.chmod(mode)

    def connect(self, door: str, user: int = OWNER) -> socket.socket:
        connection = socket.socket(socket.AF_INET if door == "tcp" else socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        try:
            with acting_as(user):
                connection.connect(("127.0.0.1", self.port) if door == "tcp" else str(self.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def headers(self, door: str, **more: str) -> list[tuple[str, str]]:
        """Those of a good request."""
        token = {"Authorization": f"Bearer {self.token}"} if door == "tcp" else {}
        return list({"Host": f"127.0.0.1:{self.port}", **token, **JSON, **more}.items())

    def ask(
        self,
        door: str,
        method: str,
        path: str,
        headers: Headers | None = None,
        body: bytes = b"",
        user: int = OWNER,
    ) -> Answer:
        given = dict_items(self.headers(door) if headers is None else headers)
        if "Connection" not in dict(given):
            given = [*given, ("Connection", "close")]
        if body:
            given = [*given, ("Content-Length", str(len(body)))]
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given)]
        return self.raw(door, "\r\n".join([*lines, "", ""]).encode() + body, user)

    def raw(self, door: str, message: bytes, user: int = OWNER) -> Answer:
        with self.connect(door, user) as connection:
            with suppress(OSError):  # it has heard enough
                connection.sendall(message)
            return read_answer(connection)


def dict_items(headers: Headers) -> list[tuple[str, str]]:
    return headers if isinstance(headers, list) else list(headers.items())


def read_answer(connection: socket.socket) -> Answer:
    """All that comes until the connection is closed; status 0 where that is nothing."""
    content = b""
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            content += piece
    head, _, body = content.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    found = re.fullmatch(r"HTTP/1\.[01] (\d{3}).*", lines[0])
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Answer(int(found[1]) if found else 0, headers, body)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
