"""Waiting for the answer of a daemon that may have been stopped."""

import socket
import threading
import time

import pytest

from tasak.client import client
from tasak.client.patience import PatientReader, Watch
from tasak.errors import DaemonLost

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nTasak-Exit: 0\r\n\r\n5\n"


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class Daemon:
    """Says whether it is there, as often as it is told to, and counts how often it was asked."""

    def __init__(self, *answers: bool) -> None:
        self._answers = list(answers)
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self._answers.pop(0) if self._answers else True


def test_an_answer_that_is_there_is_read_without_a_question(pair):
    ours, theirs = pair
    theirs.sendall(ANSWER)
    daemon = Daemon()

    assert b"5\n" == client.read_reply(ours, lambda progress: None, watch=hurried(daemon)).body
    assert 0 == daemon.asked


def test_a_long_call_is_waited_for_while_the_daemon_is_there(pair):
    ours, theirs = pair
    threading.Timer(0.5, theirs.sendall, [ANSWER]).start()
    daemon = Daemon()

    assert b"5\n" == client.read_reply(ours, lambda progress: None, watch=hurried(daemon)).body
    assert daemon.asked > 3


def test_a_daemon_that_is_not_there_any_more_leaves_the_outcome_open(pair):
    ours, _ = pair
    began = time.monotonic()

    with pytest.raises(DaemonLost, match="it does not answer any more"):
        client.read_reply(ours, lambda progress: None, watch=hurried(lambda: False))

    assert time.monotonic() - began < 5


def test_one_that_is_held_up_for_a_while_is_given_time(pair):
    ours, theirs = pair
    threading.Timer(0.6, theirs.sendall, [ANSWER]).start()
    daemon = Daemon(False, False, False, True, False, False, False, True)

    assert b"5\n" == client.read_reply(ours, lambda progress: None, watch=hurried(daemon)).body


def test_one_that_stops_in_the_middle_of_its_answer_is_noticed_too(pair):
    ours, theirs = pair
    theirs.sendall(ANSWER[:-1])

    with pytest.raises(DaemonLost):
        client.read_reply(ours, lambda progress: None, watch=hurried(lambda: False))


def test_the_end_of_the_connection_is_read_as_one(pair):
    ours, theirs = pair
    theirs.close()

    assert b"" == PatientReader(ours, hurried(lambda: True)).read(1)


def hurried(is_there) -> Watch:
    return Watch(is_there, silence=0.05)
