"""Who gets in at the daemon's two doors, and what they may send: over TCP and over the socket, a real daemon behind.

The daemon is OWNER's, and so is whoever sends what is wrong in itself; another user sends the same.
"""

import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from tasak.front_door import BODY_TIMEOUT, HEAD_TIMEOUT, MAX_TCP_BODY
from tasak.server import ROUTES
from tests.security.attacks import BAD, NO_TOKEN, PAGES, PREFLIGHT, ROWS, WRONG_TYPE
from tests.security.front import CALL, GOOD, JSON, Front, free_port, read_answer
from tests.security.people import OWN_APP, OWNER, STRANGER, Home, as_root
from tests.shell import FAST_APP, Shell, until

pytestmark = pytest.mark.keeps("the daemon that the tests of this module share outlives each of them")

MIB = 1 << 20

# Which of aiohttp's two parsers of HTTP reads it: where there is no wheel of it, the slower one.
PARSERS = [
    pytest.param({}, id=""),
    pytest.param({"AIOHTTP_NO_EXTENSIONS": "1"}, id="in-python", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=PARSERS)
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    with Home() as home:
        yield Front(home, **request.param)


@pytest.fixture(params=["tcp", "socket"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def refuses(front: Front) -> Iterator[None]:
    """Nothing ran meanwhile, and the next good request is answered."""
    before = front.executions
    yield
    assert before == front.executions
    assert 200 == front.ask("tcp", "POST", CALL, body=GOOD).status
    assert 200 == front.ask("socket", "POST", CALL, body=GOOD).status


# ── who, from where, and what ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ROWS)
def test_a_call_is_answered_as_its_row_says(front, door, what):
    before = front.executions

    answer = ROWS[what].send(front, door)

    assert ROWS[what].expected(door) == (answer.status, answer.code)
    assert before + (answer.status == 200) == front.executions
    assert 200 == front.ask(door, "POST", CALL, body=GOOD).status
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    if answer.code:
        assert "not_executed" == json.loads(answer.body)["error"]["outcome"]
        assert not any(character < " " or character == "\x7f" for character in answer.body.decode().strip())


@as_root
@pytest.mark.parametrize("what", ROWS)
def test_another_user_is_refused_whatever_they_send(front, door, refuses, what):
    """With the modes taken away that keep them from the socket; over TCP, without the token."""
    row = ROWS[what]

    with front.modes():
        answer = row.send(front, door, STRANGER, knows_token=False)

    refusals = {403} if door == "socket" else {401, row.answer[0]} - {200}
    assert answer.status in refusals


@pytest.mark.parametrize("knows_token", [False, True])
@pytest.mark.parametrize("what", PAGES)
def test_a_page_is_refused_whatever_it_sends_and_even_if_it_knew_the_token(front, refuses, what, knows_token):
    answer = PAGES[what].send(front, "tcp", STRANGER, knows_token=knows_token)

    expected = WRONG_TYPE if knows_token and PAGES[what].answer == NO_TOKEN else PAGES[what].answer
    assert expected == (answer.status, answer.code)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_call_is_a_post_and_that_is_said(front, door):
    assert "POST" == front.ask(door, "GET", CALL).headers["Allow"]


def test_who_has_no_token_is_told_the_same_whatever_is_wrong_with_it(front):
    rows = [row for row in ROWS.values() if row.answer == NO_TOKEN]

    assert 1 == len({row.send(front, "tcp").body for row in rows})


def test_the_token_counts_in_its_header_alone(front, refuses):
    headers = {"Host": "localhost", **JSON, "Cookie": f"token={front.token}", "Tasak-Token": front.token}
    body = json.dumps({**json.loads(GOOD), "token": front.token}).encode()

    assert (
        401 == front.ask("tcp", "POST", f"{CALL}?token={front.token}&access_token={front.token}", headers, body).status
    )
    assert 400 == front.ask("tcp", "POST", CALL, [*front.headers("tcp"), ("Authorization", "Bearer x")], GOOD).status


# Each that there is, one that there is not, and a method that there is not.
EVERYWHERE = [
    *((route.method, route.path.format(app="fast", call_id="x", id="x")) for route in ROUTES),
    ("GET", "/there-is-none"),
    ("OPTIONS", CALL),
]


def test_every_route_asks_for_the_token_and_health_without_it_says_nothing(front, refuses):
    answers = {each: front.ask("tcp", *each, {"Host": "localhost"}, user=STRANGER) for each in EVERYWHERE}
    health = answers.pop(("GET", "/health"))

    assert {(401, "no_token")} == {(answer.status, answer.code) for answer in answers.values()}
    assert (200, b'{"status": "ok"}') == (health.status, health.body)


@as_root
def test_every_route_of_the_socket_asks_who_is_there(front, refuses):
    with front.modes():
        answers = [front.ask("socket", *each, {"Host": "localhost"}, user=STRANGER) for each in EVERYWHERE]

    assert {(403, "forbidden")} == {(answer.status, answer.code) for answer in answers}
    assert 1 == len({answer.body for answer in answers})


@pytest.mark.slow
def test_another_start_has_another_token_and_it_is_private(front):
    with Home() as shell:
        first = Front(shell)
        token = first.token
        shell("daemon", "restart")
        until(lambda: first.token_file.exists() and first.token != token)
        found = os.lstat(first.token_file)

        old = first.ask("tcp", "GET", "/metrics", {"Host": "localhost", "Authorization": f"Bearer {token}"})

        assert 401 == old.status
        assert (0o600, OWNER) == (stat.S_IMODE(found.st_mode), found.st_uid)
        assert 43 == len(token)


# ── how much, and how long ───────────────────────────────────────────────────────────────────────────────────────


def test_over_tcp_a_body_is_small(front, refuses):
    daemon = psutil.Process(front.shell.daemon_pid)
    before = daemon.memory_info().rss
    head = b"\r\n".join(f"{name}: {value}".encode() for name, value in front.headers("tcp"))
    chunks = b"".join(b"10000\r\n" + b" " * (1 << 16) + b"\r\n" for _ in range(2 * MIB >> 16)) + b"0\r\n\r\n"
    start = f"POST {CALL} HTTP/1.1\r\n".encode() + head + b"\r\nConnection: close\r\n"

    answers = [
        front.ask("tcp", "POST", CALL, body=b" " * (MAX_TCP_BODY + 1)),
        front.raw("tcp", start + b"Transfer-Encoding: chunked\r\n\r\n" + chunks),
    ]
    with front.connect("tcp") as connection:
        connection.sendall(start + b"Content-Length: 1000000000000000000\r\n\r\n")
        promised = connection.recv(1 << 16)

    assert [(413, "too_large")] * 2 == [(answer.status, answer.code) for answer in answers]
    assert {"not_executed"} == {json.loads(answer.body)["error"]["outcome"] for answer in answers}
    assert promised.startswith(b"HTTP/1.1 413 ")
    assert daemon.memory_info().rss - before < 8 * MIB


def test_at_the_socket_a_body_may_carry_a_file(front):
    body = json.dumps({"tool": "echo", "arguments": {"text": "x" * (2 * MIB)}}).encode()

    assert 200 == front.ask("socket", "POST", CALL, body=body).status


# Where it follows what is wrong, the request would be a good one without that.
WHOLE = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(GOOD) + GOOD
SMUGGLED = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a length with a sign": WHOLE.replace(b"Length: ", b"Length: +"),
    "a list of lengths": WHOLE.replace(b"Length: ", b"Length: %d, " % len(GOOD)),
    "two hosts": b"Host: localhost\r\n" + WHOLE,
    "a folded header": b"X-A: b\r\n c\r\n" + WHOLE,
    "a space before the colon": b"X-A : b\r\n" + WHOLE,
    "a zero in a header": b"X-A: b\0c\r\n" + WHOLE,
    "a line that ends in LF alone": b"X-A: b\nX-B: c\r\n" + WHOLE,
    "a line that ends in CR alone": b"X-A: b\rX-B: c\r\n" + WHOLE,
    "another coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding that is none": b"Transfer-Encoding: identity\r\n" + WHOLE,
    "a chunk without end": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "a long header": b"X-A: " + b"a" * (1 << 16) + b"\r\n" + WHOLE,
    "many headers": b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + WHOLE,
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_what_two_readers_could_read_in_two_ways_is_not_read(front, door, refuses, what):
    head = b"".join(f"{name}: {value}\r\n".encode() for name, value in front.headers(door))

    answer = front.raw(door, f"POST {CALL} HTTP/1.1\r\n".encode() + head + SMUGGLED[what])

    assert answer.status in ([400] if front.is_strict else [0, 400, 408])
    assert answer.status == 0 or answer.code in ("bad_request", "too_slow")


@pytest.mark.parametrize(("blanks", "status"), [(MIB, 400), (10_000, 400), (10, 200)])
def test_a_good_token_is_not_read_where_its_line_is_too_long(front, door, blanks, status):
    """Blanks behind it are no part of it."""
    token = ("Authorization", f"Bearer {front.token}{' ' * blanks}")
    headers = [token, *(each for each in front.headers(door) if each[0] != token[0])]
    before = front.executions

    answer = front.ask(door, "POST", CALL, headers, GOOD)

    assert (status, before + (status == 200)) == (answer.status, front.executions)
    assert 200 == front.ask(door, "POST", CALL, body=GOOD).status


@pytest.mark.parametrize(
    "line",
    [
        "POST http://evil.example/tools/call/fast HTTP/1.1",
        "POST http://localhost/tools/call/fast HTTP/1.1",
        "POST /tools/call/fast HTTP/2.0",
        "POST /tools/call/fast HTTP/0.9",
        "POST tools/call/fast HTTP/1.1",
        "GET /health",
        "OPTIONS * HTTP/1.1",
        "PRI * HTTP/2.0",
    ],
)
def test_the_first_line_names_a_path_and_http_of_today(front, door, refuses, line):
    """A target with a host in it would count for more than the Host header."""
    head = b"".join(f"{name}: {value}\r\n".encode() for name, value in front.headers(door))

    answer = front.raw(door, f"{line}\r\n".encode() + head + WHOLE)

    assert b"bad_request" in answer.body


@pytest.mark.parametrize("method", ["CONNECT", "FOO"])
def test_no_word_of_nobodys_makes_a_call(front, door, refuses, method):
    assert front.ask(door, method, CALL, body=GOOD).status in (400, 404, 405)


FIELDS = [
    ("timeout_ms", 5), ("app", 1), ("app", None), ("tool", 1), ("tool", None), ("arguments", []), ("arguments", "x"),
    ("arguments", None), ("timeout", "5"), ("timeout", 0), ("timeout", -1), ("timeout", True), ("timeout", 1e9),
    ("timeout", None), ("tty", 1), ("env", {"A": 1}), ("cwd", "x"), ("session", 1), ("call_id", 1), ("read_only", "no"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_a_field_that_is_none_or_of_another_kind_is_named(front, door, refuses, field, value):
    answer = front.ask(door, "POST", CALL, body=json.dumps({**json.loads(GOOD), field: value}).encode())

    assert BAD == (answer.status, answer.code)
    assert f"'{field}'" in json.loads(answer.body)["error"]["message"]


def test_there_is_no_other_protocol_anywhere(front, door, refuses):
    upgrades = [{"Upgrade": protocol, "Connection": "Upgrade, close"} for protocol in ("websocket", "h2c")]

    answers = [front.ask(door, *each, front.headers(door, **more)) for each in EVERYWHERE for more in upgrades]

    assert {400} == {answer.status for answer in answers}


def test_no_route_says_that_a_page_may_come(front, door, refuses):
    answers = [front.ask(door, *each, front.headers(door, **PREFLIGHT)) for each in EVERYWHERE]

    assert {403} == {answer.status for answer in answers}
    assert not [name for answer in answers for name in answer.headers if name.lower().startswith("access-control")]


SECRET = "not to be repeated"
NO_HTTP = {
    "no method that there is": b"FOO /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "raw JSON": GOOD + b"\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(200),
    "no method": b"\r\n\r\n\r\n /health\r\n\r\n",
    "a strange header": b"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    + SECRET.encode()
    + b"\x01\r\n\r\n",
}


@pytest.mark.parametrize("what", NO_HTTP)
def test_what_is_no_http_is_told_so_and_is_repeated_nowhere(front, door, refuses, what):
    answer = front.raw(door, NO_HTTP[what])

    assert answer.status in ([400] if front.is_strict else [0, 400, 401, 405])
    assert SECRET.encode() not in answer.body
    assert SECRET not in (front.shell.state / "daemon.log").read_text()


def test_who_may_not_come_in_is_told_before_the_body_is_sent(front, refuses):
    headers = {"Host": "localhost", **JSON, "Expect": "100-continue", "Content-Length": str(len(GOOD))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    with front.connect("tcp") as connection:
        connection.sendall(f"POST {CALL} HTTP/1.1\r\n{head}\r\n".encode())
        answer = connection.recv(1 << 16)

    assert answer.startswith(b"HTTP/1.1 401 ")


SLOW = {
    "nothing": [],
    "half a head": [b"GET /health HT"],
    "drop by drop": [bytes([each]) for each in b"GET /health HTTP/1.1\r\nHost: localhost\r\n"],
    "half a body": [b"POST /tools/call/fast HTTP/1.1\r\nHEADERS\r\nContent-Length: 400\r\n\r\n{"],
}


@pytest.mark.slow
def test_who_is_slow_or_silent_is_not_waited_for_and_keeps_nobody_out(front, door):
    before = front.executions
    head = "\r\n".join(f"{name}: {value}" for name, value in front.headers(door)).encode()
    with ExitStack() as stack:
        slow = [(stack.enter_context(front.connect(door)), parts) for parts in SLOW.values() for _ in range(50)]
        began = time.monotonic()
        sent = 0
        while time.monotonic() - began < max(HEAD_TIMEOUT, BODY_TIMEOUT) + 2:
            for connection, parts in slow:
                if sent < len(parts):
                    try:
                        connection.sendall(parts[sent].replace(b"HEADERS", head))
                    except OSError:
                        continue
            sent += 1
            asked = time.monotonic()
            assert 200 == front.ask(door, "GET", "/health").status
            assert time.monotonic() - asked < 1.0
            time.sleep(1)
        answers = [read_answer(connection) for connection, _ in slow]

    # One that says what it waited for, or plain silence.
    assert {0, 400, 408} >= {answer.status for answer in answers}
    assert {"too_slow"} == {answer.code for answer in answers if answer.status == 408}
    assert before == front.executions


# ── the port ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_that_is_taken_is_said_and_the_socket_will_do():
    with Home() as shell, socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        shell.env["TASAK_DAEMON_PORT"] = place.rpartition(":")[2]
        shell.configure({"fast": OWN_APP})

        assert "hello\n" == shell("fast", "echo", "--text", "hello").stdout
        until(lambda: "tcp_problem" in shell.json("daemon", "status"))

        status = shell.json("daemon", "status")
        assert (True, f"{place}: Address already in use") == (status["running"], status["tcp_problem"])
        assert "tcp" not in status
        assert "`tasak doctor` says what is in the way; `tasak daemon restart` tries again" == status["fix"]
        assert not (shell.state / "daemon.token").exists()


@pytest.mark.slow
def test_without_a_port_there_is_none():
    with Shell() as shell:
        shell.configure({"fast": FAST_APP})
        shell("fast", "echo", "--text", "hello")

        daemon = psutil.Process(shell.daemon_pid)

        assert [] == daemon.net_connections("inet")
        assert not {"tcp", "tcp_problem"} & shell.json("daemon", "status").keys()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["link", "folder", "open", "second name", "short"])
def test_whatever_stands_in_the_place_of_the_token_is_not_followed(what):
    with Home() as shell:
        shell.state.mkdir(0o700)
        token, victim = shell.state / "daemon.token", shell.home / "victim"
        victim.write_text("mine")
        {
            "link": lambda: token.symlink_to(victim),
            "folder": token.mkdir,
            "open": lambda: token.touch(0o666),
            "second name": lambda: os.link(victim, token),
            "short": lambda: token.write_text("abc"),
        }[what]()
        for path in (shell.state, token, victim):
            shell.give(path)
        shell.env["TASAK_DAEMON_PORT"] = str(free_port())
        shell.configure({"fast": OWN_APP})

        assert "hello\n" == shell("fast", "echo", "--text", "hello").stdout
        until(lambda: {"tcp", "tcp_problem"} & shell.json("daemon", "status").keys())

        assert "mine" == victim.read_text()
        if what == "folder":
            assert "tcp_problem" in shell.json("daemon", "status")
        else:
            assert stat.S_ISREG(os.lstat(token).st_mode)
            assert 43 == len(token.read_text().strip())
            assert 0o600 == stat.S_IMODE(os.lstat(token).st_mode)
