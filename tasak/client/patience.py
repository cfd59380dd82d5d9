"""Waiting for an answer for as long as the daemon is there, and no longer: a stopped one says nothing for ever."""

import io
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Watch:
    """How the daemon is looked after while it is silent; a call may well be silent for longer."""

    is_there: Callable[[], bool] = always
    silence: float = 5.0
    """Seconds until it is asked, and from one question to the next."""
    questions: int = 4
    """So many in a row without an answer: a plugin may hold up the loop for a while, and the daemon goes on."""


class PatientSocket:
    """What `http.client` needs of a socket, less the waiting for ever."""

    def __init__(self, connection: socket.socket, watch: Watch) -> None:
        self._connection = connection
        self._watch = watch

    def makefile(self, mode: str, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(PatientReader(self._connection, self._watch))


class PatientReader(io.RawIOBase):
    """Reads from the connection. Raises TimeoutError where the daemon was asked several times, and is not there."""

    def __init__(self, connection: socket.socket, watch: Watch) -> None:
        self._connection = connection
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        unanswered = 0
        while not select.select([self._connection], [], [], self._watch.silence)[0]:
            unanswered = 0 if self._watch.is_there() else unanswered + 1
            if unanswered == self._watch.questions:
                raise TimeoutError("it does not answer any more")
        return self._connection.recv_into(buffer)
