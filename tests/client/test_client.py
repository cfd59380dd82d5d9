"""The full CLI's half of a conversation, against a daemon that says whatever a daemon may say, or must not."""

import _socket
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tasak
from tasak.client import client, launcher, replacer, stopper
from tasak.client.patience import Watch
from tasak.errors import (
    BadRequest,
    DaemonAway,
    DaemonLost,
    Draining,
    InternalError,
    ServerError,
    TasakError,
    UnknownApp,
    VersionSkew,
    error_types,
)
from tasak.paths import StateDir
from tasak.request import Reply, Request
from tasak.wire import CONTINUE_TIMEOUT
from tests.client.daemon_stub import GO_AHEAD, Caller, DaemonStub, Script, answer, plain

# How late a busy machine may be.
LEEWAY = 2.0

HEAD = b"HTTP/1.1 200 OK\r\n"
NDJSON = HEAD + b"Content-Type: application/x-ndjson\r\n"
STEP = b'{"progress": {"progress": 1, "total": 2, "message": null}}\n'
ANSWER = b'{"answer": {"exit": 5, "session": "warm", "notices": ["a notice"], "body": "za\\u017c\\n"}}\n'


def request(**fields: Any) -> Request:
    return Request(**{"app": "app", "tool": "tool", "cwd": Path("/somewhere"), "env": {"A": "b"}} | fields)


def connected(daemon: DaemonStub) -> socket.socket:
    connection = launcher.connect(StateDir(daemon.path.parent))
    assert connection is not None
    return connection


def call(script: Script, *, is_exact: bool = False, **fields: Any) -> tuple[Reply, list[Any], Caller]:
    """The reply, the progress that was heard, and what the daemon saw."""
    heard: list[Any] = []
    with DaemonStub(script) as daemon:
        reply = client.call(connected(daemon), request(**fields), heard.append, is_exact=is_exact)
    return reply, heard, daemon.caller


def failure(script: Script, **fields: Any) -> TasakError:
    with pytest.raises(TasakError) as raised:
        call(script, **fields)
    return raised.value


def refuse(reply: bytes) -> Script:
    """Answer instead of letting the body come, and hang up."""

    def script(caller: Caller) -> None:
        caller.read_head()
        caller.send(reply)

    return script


def error(status: int, problem: TasakError) -> bytes:
    content = json.dumps(problem.as_json()).encode()
    return f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def chunked(*pieces: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


# What is sent


def test_the_head_says_who_calls_and_asks_before_the_body_comes():
    _, _, caller = call(answer(plain(b"")), wants_json=True)

    assert caller.head.startswith(b"POST /tools/call/app HTTP/1.1\r\n")
    assert ("100-continue", "application/json") == (caller.header("Expect"), caller.header("Accept"))
    assert tasak.__version__ == caller.header("Tasak-Version")
    assert b"Tasak-App" not in caller.head


def test_a_word_of_ours_that_is_meant_as_an_app_is_marked():
    _, _, caller = call(answer(plain(b"")), app="ping", is_exact=True)

    assert ("exact", True) == (caller.header("Tasak-App"), caller.head.startswith(b"POST /tools/call/ping "))


def test_the_body_has_what_is_known_of_the_call_and_nothing_else():
    _, _, least = call(answer(plain(b"")))
    _, _, most = call(
        answer(plain(b"")), argv=("--a", "b"), session="mine", timeout=1.5, call_id="once", is_terminal=True
    )

    known = {"tool": "tool", "argv": [], "cwd": "/somewhere", "env": {"A": "b"}, "tty": False}
    assert known == json.loads(least.body)
    more = {"argv": ["--a", "b"], "session": "mine", "timeout": 1.5, "call_id": "once", "tty": True}
    assert known | more == json.loads(most.body)


def test_a_caller_without_a_folder_names_none():
    _, _, caller = call(answer(plain(b"")), cwd=None)

    assert "cwd" not in json.loads(caller.body)


def test_bytes_that_are_not_utf8_are_sent_as_they_came():
    odd = b"/\xff\xfe\xc3\xa9"
    text = os.fsdecode(odd)

    _, _, caller = call(answer(plain(b"")), cwd=Path(text), env={text: text}, argv=(text,))

    sent = json.loads(caller.body)
    came = [sent["cwd"], *sent["env"], *sent["env"].values(), *sent["argv"]]
    assert [odd] * 4 == [os.fsencode(each) for each in came]


# A good answer


def test_a_plain_answer_is_bytes_a_status_a_mark_and_notices():
    body = bytes(range(256))
    more = "Tasak-Session: restarted\r\nTasak-Notice: one%0Aline %C5%BC\r\ntasak-notice: two\r\n"

    reply, heard, _ = call(answer(plain(body, status=5, more=more)))

    assert Reply(body=body, exit_status=5, mark="restarted", notices=["one\nline ż", "two"]) == reply
    assert [] == heard


def test_the_go_ahead_and_the_answer_may_come_in_one_piece():
    def eager(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD + plain(b"early"))
        caller.read_body()

    reply, _, _ = call(eager)

    assert b"early" == reply.body


def test_a_stream_is_progress_and_then_the_answer():
    reply, heard, _ = call(answer(NDJSON + chunked(STEP, STEP[:20], STEP[20:] + ANSWER, b"")))

    assert [{"progress": 1, "total": 2, "message": None}] * 2 == heard
    assert Reply(body="zaż\n".encode(), exit_status=5, mark="warm", notices=["a notice"]) == reply


def test_a_stream_may_end_with_a_failure():
    line = json.dumps(ServerError("no luck", fix="pray").as_json()).encode() + b"\n"

    problem = failure(answer(NDJSON + chunked(STEP, line, b"")))

    assert (ServerError, "no luck", "pray") == (type(problem), problem.message, problem.fix)


def test_the_reply_that_the_hot_path_left_is_read():
    def script(caller: Caller) -> None:
        caller.read_head()
        caller.send(plain(b"for you", more="Tasak-Notice: look\r\n"))

    with DaemonStub(script) as daemon:
        left = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        left.connect(str(daemon.path))
        left.send(b"POST /tools/call/app HTTP/1.1\r\n\r\n")
        reply = client.read_reply(left, print)

    assert (b"for you", ["look"]) == (reply.body, reply.notices)
    assert -1 == left.fileno()


# What the daemon reports


@pytest.mark.parametrize("kind", list(error_types()), ids=lambda kind: kind.code)
def test_a_reported_failure_is_the_same_here(kind):
    problem = failure(answer(error(kind.http_status, kind("what", fix="do"))))

    assert (kind, "what", "do") == (type(problem), problem.message, problem.fix)


def test_a_refusal_instead_of_the_go_ahead_is_told_and_nothing_is_sent():
    for kind in (Draining, UnknownApp, BadRequest):
        with DaemonStub(refuse(error(kind.http_status, kind("no")))) as daemon, pytest.raises(kind):
            client.call(connected(daemon), request(), print, is_exact=False)

        assert b"" == daemon.caller.body


def test_a_refusal_in_the_middle_of_the_body_is_still_read():
    def full(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.connection.recv(1)
        caller.send(error(413, BadRequest("too much")))
        caller.connection.shutdown(socket.SHUT_RD)

    problem = failure(full, argv=("x" * (4 << 20),))

    assert (BadRequest, "too much") == (type(problem), problem.message)


# Broken off before the body: nothing ran


def hang_up(_: Caller) -> None:
    pass


def hang_up_after_the_head(caller: Caller) -> None:
    caller.read_head()


REFUSAL = error(503, Draining("stopping"))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(hang_up, id="at once"),
        pytest.param(hang_up_after_the_head, id="after the head"),
        pytest.param(refuse(b"HTTP/1.1 100 Continue\r\nX"), id="in the go-ahead"),
        pytest.param(refuse(REFUSAL[:12]), id="in a refusal's status line"),
        pytest.param(refuse(REFUSAL[:-40]), id="in a refusal"),
        pytest.param(refuse(b"\0\1garbage\r\n\r\n"), id="garbage"),
        pytest.param(refuse(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"), id="a refusal in no words of ours"),
        pytest.param(refuse(plain(b"5\n")), id="an answer to what was not asked"),
    ],
)
def test_what_breaks_off_before_the_body_was_not_executed(script):
    with DaemonStub(script) as daemon, pytest.raises(TasakError) as raised:
        client.call(connected(daemon), request(), print, is_exact=False)

    assert "not_executed" == raised.value.outcome
    assert b"" == daemon.caller.body


def test_a_daemon_that_hangs_up_is_not_said_to_be_slow():
    problem = failure(hang_up_after_the_head)

    assert isinstance(problem, DaemonAway)
    assert "did not answer within" not in problem.message


def say(words: bytes) -> Script:
    """Nothing but this, until the caller has had enough."""

    def script(caller: Caller) -> None:
        caller.read_head()
        caller.send(words)
        caller.wait_for_hang_up()

    return script


def time_to_give_up(words: bytes) -> tuple[float, type[TasakError], bytes]:
    with DaemonStub(say(words)) as daemon:
        began = time.monotonic()
        with pytest.raises(TasakError) as raised:
            client.call(connected(daemon), request(), print, is_exact=False)
        took = time.monotonic() - began
    return took, type(raised.value), daemon.caller.body


def answer_late(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD)
    caller.read_body()
    caller.connection.settimeout(CONTINUE_TIMEOUT + 0.2)
    with pytest.raises(TimeoutError):
        caller.connection.recv(1)
    caller.send(plain(b"late"))


@pytest.mark.slow
def test_a_go_ahead_comes_in_time_or_nothing_is_sent_while_the_answer_has_all_the_time_it_needs():
    with ThreadPoolExecutor() as pool:
        late = pool.submit(call, answer_late)
        # Nothing, half a go-ahead, and a whole line of one.
        ends = list(pool.map(time_to_give_up, [b"", b"HTTP/1.1 1", b"HTTP/1.1 100 Continue\r\n"]))

    for took, kind, body in ends:
        assert (DaemonAway, b"") == (kind, body)
        assert CONTINUE_TIMEOUT - 0.1 < took < CONTINUE_TIMEOUT + LEEWAY
    assert b"late" == late.result()[0].body


@pytest.mark.slow
def test_a_daemon_that_was_started_just_now_has_more_time_for_its_go_ahead():
    def begin_late(caller: Caller) -> None:
        caller.read_head()
        time.sleep(CONTINUE_TIMEOUT + 0.3)
        caller.send(GO_AHEAD)
        caller.read_body()
        caller.send(plain(b"begun"))

    with DaemonStub(begin_late) as daemon, launcher.start(StateDir(daemon.path.parent)) as connection:
        reply = client.call(connection, request(), print, is_exact=False)

    assert b"begun" == reply.body


# Broken off after the body: it may have run


def answer_and_reset(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD)
    caller.connection.recv(1)  # what else came is unread: closing now is a reset


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answer(b""), id="before the answer"),
        pytest.param(answer_and_reset, id="reset"),
        pytest.param(answer(b"HTTP/1.1 2"), id="in the status line"),
        pytest.param(answer(HEAD + b"Tasak-Exit: 0\r\n"), id="in the head"),
        pytest.param(answer(HEAD + b"Tasak-Exit: 0\r\n\r\n5\n"), id="who knows where, without a length"),
        pytest.param(answer(plain(b"five\n")[:-1]), id="in the body"),
        pytest.param(answer(b"\0\1garbage\r\n\r\n"), id="garbage"),
        pytest.param(answer(b"\n" * 200_000), id="no status line ever"),
        pytest.param(answer(HEAD + b"X: y\r\n" * 200 + b"\r\n"), id="too many headers"),
        pytest.param(answer(NDJSON + b"\r\n"), id="an empty stream"),
        pytest.param(answer(NDJSON + b"\r\n" + STEP), id="a stream after its progress"),
        pytest.param(answer(NDJSON + b"\r\n" + STEP + ANSWER[:-30]), id="a stream in a line"),
        pytest.param(answer(NDJSON + b"\r\n" + b"\xff\n"), id="a stream of garbage"),
        pytest.param(answer(NDJSON + chunked(STEP)), id="a chunked stream between chunks"),
        pytest.param(answer(NDJSON + chunked(STEP, ANSWER)[:-10]), id="a chunked stream in a chunk"),
        pytest.param(answer(NDJSON + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), id="a chunk of no length"),
    ],
)
def test_what_breaks_off_after_the_body_may_have_run(script):
    problem = failure(script)

    assert (DaemonLost, "unknown", 6) == (type(problem), problem.outcome, problem.exit_status)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(HEAD + b"Content-Length: 2\r\n\r\n5\n", id="no exit status"),
        pytest.param(HEAD + b"Tasak-Exit: -1\r\nContent-Length: 2\r\n\r\n5\n", id="an exit status that is none"),
        pytest.param(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", id="an error in no words of ours"),
        pytest.param(NDJSON + b"\r\n" + b"5\n", id="a stream of something else"),
        pytest.param(NDJSON + b"\r\n" + b'{"answer": {"exit": "0"}}\n', id="a stream whose answer lacks most"),
    ],
)
def test_an_answer_that_says_nothing_known_may_have_run(reply):
    problem = failure(answer(reply))

    assert "unknown" == problem.outcome


def test_an_error_of_a_later_version_is_shown_with_its_code():
    content = b'{"error": {"code": "moon_phase", "message": "wait for the moon", "fix": null}}'

    problem = failure(answer(b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)))

    assert (InternalError, "wait for the moon (moon_phase)") == (type(problem), problem.message)


def test_a_mark_of_a_later_version_is_taken_for_a_new_session():
    reply, _, _ = call(answer(plain(b"", more="Tasak-Session: frozen\r\n")))

    assert "new" == reply.mark


# Any other question


def ask(reply: bytes, **how: Any) -> tuple[int, bytes, Caller]:
    def script(caller: Caller) -> None:
        caller.read_head()
        caller.send(reply)

    with DaemonStub(script) as daemon:
        status, content = client.ask(connected(daemon), "GET", "/apps", **how)
    return status, content, daemon.caller


def test_a_question_is_asked_and_its_answer_given_whatever_its_status():
    status, content, caller = ask(b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello", accept="text/plain")

    assert (404, b"hello") == (status, content)
    assert caller.head.startswith(b"GET /apps HTTP/1.1\r\n")
    assert "text/plain" == caller.header("Accept")


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 2", HEAD, plain(b"five")[:-1], b"garbage\r\n"])
def test_a_question_whose_answer_breaks_off_has_no_daemon(reply):
    with pytest.raises(DaemonAway):
        ask(reply)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b"null", b"\xff"])
def test_an_answer_that_is_no_json_object_is_none_of_a_daemon(content):
    with pytest.raises(DaemonAway, match="the daemon's answer is no JSON object"):
        client.object_in(content)


@pytest.mark.parametrize("body", [b"[1]", b"<html>"])
def test_who_listens_and_answers_no_health_is_no_daemon_to_be_replaced(body):
    def script(caller: Caller) -> None:
        caller.read_head()
        caller.send(plain(body))

    with DaemonStub(script) as daemon:
        state = StateDir(daemon.home / ".tasak")
        with pytest.raises(DaemonAway, match="no JSON object"):
            replacer.replace(state, VersionSkew("another"))

        assert not stopper.is_there(state)


def ask_at_length(script: Script, **how: Any) -> tuple[int, bytes, Caller]:
    with DaemonStub(script) as daemon:
        how = {"is_exact": False, "watch": Watch()} | how
        status, content = client.ask_at_length(connected(daemon), "/tools/list/app", {"cwd": "/\udcff"}, **how)
    return status, content, daemon.caller


def test_a_long_question_is_asked_after_the_go_ahead_and_its_answer_given_whatever_its_status():
    status, content, caller = ask_at_length(answer(b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello"))

    assert (404, b"hello") == (status, content)
    assert caller.head.startswith(b"POST /tools/list/app HTTP/1.1\r\n")
    assert ("100-continue", {"cwd": "/\udcff"}) == (caller.header("Expect"), json.loads(caller.body))


def test_a_long_question_may_be_refused_before_its_body_comes():
    def refuse(caller: Caller) -> None:
        caller.read_head()
        caller.send(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nno")
        caller.send(b"pe")

    status, content, caller = ask_at_length(refuse)

    assert (503, b"nope", b"") == (status, content, caller.body)


def test_a_long_question_is_not_asked_of_a_daemon_that_does_not_say_that_it_is_there():
    def mute(caller: Caller) -> None:
        caller.read_head()
        caller.wait_for_hang_up()

    with DaemonStub(mute) as daemon:
        connection = connected(daemon)
        connection.settimeout(0.2)
        with pytest.raises(DaemonAway, match=r"did not answer within 0\.2 s"):
            client.ask_at_length(connection, "/tools/list/app", {}, is_exact=False, watch=Watch())

    assert b"" == daemon.caller.body


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 2", HEAD, plain(b"five")[:-1], b"garbage\r\n"])
def test_a_long_question_whose_answer_breaks_off_has_no_daemon(reply):
    with pytest.raises(DaemonAway):
        ask_at_length(answer(reply))


def test_a_long_question_is_given_up_when_the_daemon_is_not_there_any_more():
    def falls_silent(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.wait_for_hang_up()

    with pytest.raises(DaemonAway, match="it does not answer any more"):
        ask_at_length(falls_silent, watch=Watch(lambda: False, silence=0.05, questions=2))


def test_a_question_that_is_not_answered_is_given_up():
    def mute(caller: Caller) -> None:
        caller.read_head()
        caller.wait_for_hang_up()

    with DaemonStub(mute) as daemon:
        began = time.monotonic()
        with pytest.raises(DaemonAway, match=r"did not answer within 0\.2 s"):
            client.ask(connected(daemon), "GET", "/health", timeout=0.2)
        took = time.monotonic() - began

    assert 0.15 < took < 0.2 + LEEWAY
