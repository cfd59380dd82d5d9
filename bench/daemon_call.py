"""A tool call as the hot path sends it, without the process around it: what the daemon's side of a call costs."""

import os
import socket
from time import perf_counter

from bench.home import Failed, Home
from tasak.client import fast

# No answer of a call that is measured here takes as long.
PATIENCE = 30.0

# What makes it a connection for one call.
ONCE = b"Connection: close\r\nExpect: 100-continue\r\n"


class DaemonCall:
    """One call that can be made again and again. `expected` is the text that the tool answers."""

    def __init__(self, home: Home, *words: str, expected: str) -> None:
        call = fast.plain_call(list(words))
        assert call is not None
        app, wants_json, members = call
        members["cwd"] = quoted(str(home.folder))
        members["env"] = fast.as_object({quoted(name): quoted(value) for name, value in home.env.items()})
        self._body = fast.as_body(members)
        self._head = fast.request_head(app, wants_json, len(self._body))
        self._path = str(home.state.socket)
        self._ending = fast.BLANK_LINE + expected.encode() + b"\n"

    def on_new_connection(self) -> float:
        """Seconds from connecting to the last byte of the answer, the go-ahead in between."""
        began = perf_counter()
        with self.begin() as connection:
            read_until(self._ending, connection)
            return perf_counter() - began

    def begin(self) -> socket.socket:
        """Make the call; the answer will come on this connection."""
        connection = self.connect()
        connection.sendall(self._head)
        read_until(fast.BLANK_LINE, connection)
        connection.sendall(self._body)
        return connection

    def on_kept_connection(self, connection: socket.socket) -> float:
        """Seconds from the first byte sent to the last one received, without a go-ahead."""
        request = self._head.replace(ONCE, b"") + self._body
        began = perf_counter()
        connection.sendall(request)
        read_until(self._ending, connection)
        return perf_counter() - began

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        connection.connect(self._path)
        return connection


def read_until(ending: bytes, connection: socket.socket) -> None:
    seen = b""
    while not seen.endswith(ending):
        if not (piece := connection.recv(65536)):
            raise Failed(f"the daemon answered {seen!r}")
        seen += piece


def quoted(text: str) -> str:
    return fast.quote(os.fsencode(text))
