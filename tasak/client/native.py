"""What the native launcher (native/tasak.c) leaves to the full CLI, as `fast` does in the same process."""

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING

from tasak import __version__
from tasak.client.fast import Handover

if TYPE_CHECKING:
    from tasak.client.fast import State

VARIABLE = "TASAK_REPLY"

WITHOUT_REPLY: "tuple[State, ...]" = ("idle", "away", "blocked", "stranger", "hung", "gone")
WITH_REPLY: "tuple[State, ...]" = ("unsent", "sent")


def take(environment: MutableMapping[str, str] = os.environ) -> Handover | None:
    """What it left, taken out of the environment, which our own children get. None if it did not start us."""
    text = environment.pop(VARIABLE, None)
    return None if text is None else parsed(text)


def parsed(text: str) -> Handover:
    """`STATE`, or `FD:STATE` where there is an answer to read."""
    number, _, word = text.rpartition(":")
    for state in WITHOUT_REPLY:
        if text == state:
            return Handover(state)
    for state in WITH_REPLY:
        if word == state and number.isascii() and number.isdigit():
            with suppress(OSError, OverflowError):
                return Handover(state, connected(int(number)))
    return lost()


def connected(number: int) -> socket.socket:
    """
    Raises:
        OSError, OverflowError: the descriptor is no socket.
    """
    connection = socket.socket(fileno=number)
    connection.set_inheritable(False)
    return connection


def version() -> str:
    """The launcher's: that of the installation, which the package itself may have left behind where it is edited."""
    from importlib import metadata  # Lazy: only who is refused asks.

    try:
        return metadata.version("tasak")
    except metadata.PackageNotFoundError:
        return __version__


def lost() -> Handover:
    """The call may have been sent, and nobody can read its answer: a connection that is at its end says so."""
    ours, theirs = socket.socketpair()
    theirs.close()
    return Handover("sent", ours)
