"""Who gets in at the daemon's two doors, and what they may send: over TCP and over the socket, a real daemon behind."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tasak.front_door import BODY_TIMEOUT, HEAD_TIMEOUT, MAX_TCP_BODY
from tests.shell import FAST_APP, Shell

pytestmark = pytest.mark.keeps("the daemon that the tests of this module share outlives each of them")

# Longer than anything here takes on a busy machine.
PATIENCE = 30.0
MIB = 1 << 20
NOBODY = 65534

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
        return str(json.loads(self.body)["error"]["code"])


class Front:
    """A home with a daemon that listens at both doors, and an app that notes each call."""

    def __init__(self, shell: Shell, **env: str) -> None:
        self.shell = shell
        self.is_strict = not env
        """Whether what is no HTTP is refused at once, rather than waited for until its time is over."""
        shell.env.update(env)
        self.port = free_port()
        self.witness = shell.home / "exec"
        shell.env["TASAK_DAEMON_PORT"] = str(self.port)
        shell.configure({"fast": {**FAST_APP, "env": {"EXEC": str(self.witness)}}})
        assert 0 == shell("daemon", "start").returncode
        until(lambda: (shell.home / ".tasak" / "daemon.token").exists())

    @property
    def token(self) -> str:
        return (self.shell.home / ".tasak" / "daemon.token").read_text().strip()

    @property
    def executions(self) -> int:
        return len(self.witness.read_text().split()) if self.witness.exists() else 0

    def connect(self, door: str) -> socket.socket:
        if door == "tcp":
            return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(str(self.shell.home / ".tasak" / "daemon.sock"))
        return connection

    def headers(self, door: str, **more: str) -> list[tuple[str, str]]:
        """Those of a good request."""
        token = {"Authorization": f"Bearer {self.token}"} if door == "tcp" else {}
        return list({"Host": f"127.0.0.1:{self.port}", **token, **JSON, **more}.items())

    def ask(self, door: str, method: str, path: str, headers: Headers | None = None, body: bytes = b"") -> Answer:
        given = self.headers(door) if headers is None else headers
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in dict_items(given))]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.raw(door, "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)

    def raw(self, door: str, message: bytes) -> Answer:
        with self.connect(door) as connection:
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


def until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)


# Which of aiohttp's two parsers of HTTP reads it: where there is no wheel of it, the slower one.
PARSERS = [
    pytest.param({}, id=""),
    pytest.param({"AIOHTTP_NO_EXTENSIONS": "1"}, id="in-python", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=PARSERS)
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    with Shell() as shell:
        yield Front(shell, **request.param)


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


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_good_request_gets_in_at_either_door(front, door):
    before = front.executions

    answer = front.ask(door, "POST", CALL, body=GOOD)

    assert (200, "hello") == (answer.status, json.loads(answer.body)["content"][0]["text"])
    assert before + 1 == front.executions


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "bearer TOKEN", "TOKEN", "Basic TOKEN", "Bearer TOKENx", "Bearer  TOKEN", "Bearer ż"],
)
def test_over_tcp_nobody_gets_in_without_the_token(front, refuses, given):
    headers = {**dict(front.headers("tcp")), "Authorization": given.replace("TOKEN", front.token)}
    if not given:
        del headers["Authorization"]

    answer = front.ask("tcp", "POST", CALL, headers, GOOD)

    assert (401, "no_token") == (answer.status, answer.code)
    assert answer.body == front.ask("tcp", "GET", "/metrics", {"Host": "localhost"}).body


def test_the_token_counts_in_its_header_alone(front, refuses):
    headers = {"Host": "localhost", **JSON, "Cookie": f"token={front.token}", "Tasak-Token": front.token}
    body = json.dumps({**json.loads(GOOD), "token": front.token}).encode()

    assert (
        401 == front.ask("tcp", "POST", f"{CALL}?token={front.token}&access_token={front.token}", headers, body).status
    )
    assert 400 == front.ask("tcp", "POST", CALL, [*front.headers("tcp"), ("Authorization", "Bearer x")], GOOD).status


def test_every_route_asks_for_the_token_and_health_without_it_says_nothing(front, refuses):
    routes = [
        ("GET", "/apps"),
        ("GET", "/apps/fast/ping"),
        ("POST", "/tools/list/fast"),
        ("POST", CALL),
        ("GET", "/outcomes/x"),
        ("GET", "/connections"),
        ("DELETE", "/connections/x"),
        ("POST", "/connections/x/restart"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("POST", "/shutdown"),
        ("GET", "/there-is-none"),
        ("OPTIONS", CALL),
    ]

    statuses = {front.ask("tcp", method, path, {"Host": "localhost"}).status for method, path in routes}
    health = front.ask("tcp", "GET", "/health", {"Host": "localhost"})

    assert {401} == statuses
    assert (200, b'{"status": "ok"}') == (health.status, health.body)


def test_another_start_has_another_token_and_it_is_private(front):
    with Shell() as shell:
        first = Front(shell)
        token = first.token
        shell("daemon", "restart")
        until(lambda: first.token != token)
        found = os.lstat(shell.home / ".tasak" / "daemon.token")

        old = first.ask("tcp", "GET", "/metrics", {"Host": "localhost", "Authorization": f"Bearer {token}"})

        assert 401 == old.status
        assert (0o600, os.getuid()) == (stat.S_IMODE(found.st_mode), found.st_uid)
        assert 43 == len(token)


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot become another")
def test_another_user_gets_in_at_neither_door_however_open_the_folder_is(front, refuses):
    state = front.shell.home / ".tasak"
    ask = f"""
import http.client, socket
over = http.client.HTTPConnection("127.0.0.1", {front.port}, timeout=20)
over.request("GET", "/metrics")
print(over.getresponse().status)
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect({str(state / "daemon.sock")!r})
over = Unix("x")
over.request("GET", "/metrics")
print(over.getresponse().status)
"""
    modes = [(front.shell.home, 0o711), (state, 0o711), (state / "daemon.sock", 0o666)]
    before = [stat.S_IMODE(os.stat(path).st_mode) for path, _ in modes]
    for path, mode in modes:
        path.chmod(mode)
    # The interpreter of the tests may lie where only root may look: a plain one will do.
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    try:
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python, "-I", "-S", "-c", ask]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, cwd="/")
    finally:
        for (path, _), mode in zip(modes, before, strict=True):
            path.chmod(mode)

    assert "401\n403\n" == done.stdout


# ── from where ───────────────────────────────────────────────────────────────────────────────────────────────────

OTHER_HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "127.0.0.1:PORT.evil",
    "127.0.0.1:PORT@evil.example",
    "[::ffff:127.0.0.1]",
    "0.0.0.0:PORT",
    "127.0.0.2:PORT",
    "127.0.0.1:1",
    "LOCALHOST.",
    "",
]


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_over_tcp_a_name_that_only_points_here_is_not_ours(front, refuses, host):
    host = host.replace("PORT", str(front.port))

    answer = front.ask("tcp", "POST", CALL, front.headers("tcp", Host=host), GOOD)

    assert (421, "misdirected") == (answer.status, answer.code)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:PORT", "localhost", "localhost:PORT", "[::1]", "[::1]:PORT"])
def test_over_tcp_our_own_names_are(front, host):
    headers = front.headers("tcp", Host=host.replace("PORT", str(front.port)))

    assert 200 == front.ask("tcp", "GET", "/health", headers).status


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:PORT", ""]
)
def test_what_a_page_sends_is_refused_whatever_it_is(front, door, refuses, origin):
    headers = front.headers(door, Origin=origin.replace("PORT", str(front.port)))

    assert (403, "forbidden") == ((answer := front.ask(door, "POST", CALL, headers, GOOD)).status, answer.code)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
def test_what_a_browser_sends_is_refused(front, door, refuses, site):
    assert 403 == front.ask(door, "POST", CALL, front.headers(door, **{"Sec-Fetch-Site": site}), GOOD).status


def test_nothing_says_that_a_page_may_come(front, door, refuses):
    preflight = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Private-Network": "true",
    }
    answers = [
        front.ask(door, "OPTIONS", CALL, front.headers(door, **preflight)),
        front.ask(door, "OPTIONS", CALL),
        front.ask(door, "GET", "/health", front.headers(door, **preflight)),
        front.ask(door, "GET", "/health"),
    ]

    assert [403, 405, 403, 200] == [answer.status for answer in answers]
    assert not [name for answer in answers for name in answer.headers if name.lower().startswith("access-control")]


# ── what ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/json; charset=x",
        "application/json; charset=utf-16",
        "text/json",
        "",
    ],
)
def test_a_body_is_json_or_it_is_refused(front, door, refuses, kind):
    headers = {**dict(front.headers(door)), "Content-Type": kind}

    answer = front.ask(door, "POST", CALL, headers, GOOD)

    assert (415, "unsupported_media_type") == (answer.status, answer.code)


def test_a_body_without_a_type_is_refused_and_one_that_says_its_charset_is_not(front, door):
    without = [(name, value) for name, value in front.headers(door) if name != "Content-Type"]
    with_charset = front.headers(door, **{"Content-Type": "Application/JSON; charset=UTF-8"})

    assert 415 == front.ask(door, "POST", CALL, without, GOOD).status
    assert 200 == front.ask(door, "POST", CALL, with_charset, GOOD).status


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity"])
def test_a_body_is_not_unpacked(front, door, refuses, encoding):
    headers = front.headers(door, **{"Content-Encoding": encoding})

    assert 415 == front.ask(door, "POST", CALL, headers, GOOD).status


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_there_is_no_other_protocol(front, door, refuses, protocol):
    headers = front.headers(door, Upgrade=protocol)

    assert 400 == front.ask(door, "GET", "/health", headers).status
    assert 400 == front.ask(door, "POST", CALL, headers, GOOD).status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"])
def test_a_call_is_a_post_and_nothing_else(front, door, refuses, method):
    answer = front.ask(door, method, CALL, body=GOOD)

    assert (405, "POST") == (answer.status, answer.headers["Allow"])


@pytest.mark.parametrize(
    "path", ["//tools/call/fast", f"{CALL}/", "/./tools/call/fast", "/tools%2fcall/fast", "/tools/call/", "/"]
)
def test_a_path_is_taken_as_it_is(front, door, refuses, path):
    assert 404 == front.ask(door, "POST", path, body=GOOD).status


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "a%00b", "a%0ab", "%1b%5b31m", "-rf", "%2e", "x" * 300, "%C4%85"])
def test_a_name_that_no_app_can_have_is_no_apps(front, door, refuses, name):
    answer = front.ask(door, "POST", f"/tools/call/{name}", body=GOOD)

    assert answer.status in (400, 404)
    assert not any(character < " " or character == "\x7f" for character in answer.body.decode().strip())


WRONG = {
    "nested": b'{"tool": "echo", "arguments": {"text": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "open brackets": b"[" * 200_000,
    "open objects": b'{"a":' * 100_000,
    "a key twice": b'{"tool": "counter", "tool": "echo", "arguments": {}}',
    "a key twice, deeper": b'{"tool": "echo", "arguments": {"text": "a", "text": "b"}}',
    "NaN": b'{"tool": "echo", "arguments": {"text": NaN}}',
    "infinity": b'{"tool": "echo", "arguments": {"text": 1e999}}',
    "many digits": b'{"tool": "echo", "arguments": {"text": ' + b"9" * 5000 + b"}}",
    "half a pair": b'{"tool": "echo", "arguments": {"text": "\\ud800"}}',
    "no UTF-8": b'{"tool": "echo", "arguments": {"text": "\xff"}}',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "two documents": GOOD + GOOD,
    "another field": b'{"tool": "echo", "arguments": {"text": "a"}, "timeout_ms": 5}',
    "a number for a name": b'{"tool": 1, "arguments": {}}',
    "an array for arguments": b'{"tool": "echo", "arguments": []}',
    "text for a time": b'{"tool": "echo", "arguments": {"text": "a"}, "timeout": "5"}',
    "no time": b'{"tool": "echo", "arguments": {"text": "a"}, "timeout": 0}',
    "true for a time": b'{"tool": "echo", "arguments": {"text": "a"}, "timeout": true}',
    "too much time": b'{"tool": "echo", "arguments": {"text": "a"}, "timeout": 1e9}',
    "nothing": b" ",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_the_json_that_we_take_is_refused(front, door, refuses, what):
    answer = front.ask(door, "POST", CALL, body=WRONG[what])

    assert (400, "not_executed") == (answer.status, json.loads(answer.body)["error"]["outcome"])


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
    assert promised.startswith(b"HTTP/1.1 413 ")
    assert daemon.memory_info().rss - before < 8 * MIB


def test_at_the_socket_a_body_may_carry_a_file(front):
    body = json.dumps({"tool": "echo", "arguments": {"text": "x" * (2 * MIB)}}).encode()

    assert 200 == front.ask("socket", "POST", CALL, body=body).status


SMUGGLED = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a length with a sign": b"Content-Length: +2\r\n\r\n{}",
    "a folded header": b"X-A: b\r\n c\r\n\r\n",
    "a space before the colon": b"X-A : b\r\n\r\n",
    "a zero in a header": b"X-A: b\0c\r\n\r\n",
    "another coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a chunk without end": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "a long header": b"X-A: " + b"a" * (1 << 16) + b"\r\n\r\n",
    "many headers": b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + b"\r\n",
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_what_two_readers_could_read_in_two_ways_is_not_read(front, door, refuses, what):
    head = b"".join(f"{name}: {value}\r\n".encode() for name, value in front.headers(door))

    answer = front.raw(door, f"POST {CALL} HTTP/1.1\r\n".encode() + head + SMUGGLED[what])

    assert answer.status in ([400] if front.is_strict else [0, 400, 408])
    assert answer.status == 0 or answer.code in ("bad_request", "too_slow")


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
    assert SECRET not in (front.shell.home / ".tasak" / "daemon.log").read_text()


@pytest.mark.parametrize("asked", ["200-ok", "100-continue, x"])
def test_nothing_else_is_to_be_expected(front, door, refuses, asked):
    answer = front.ask(door, "POST", CALL, front.headers(door, Expect=asked), GOOD)

    assert (400, "bad_request") == (answer.status, answer.code)


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
    with Shell() as shell, socket.create_server(("127.0.0.1", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        shell.env["TASAK_DAEMON_PORT"] = place.rpartition(":")[2]
        shell.configure({"fast": FAST_APP})

        assert "hello\n" == shell("fast", "echo", "--text", "hello").stdout
        until(lambda: "tcp" in shell.json("daemon", "status"))

        status = shell.json("daemon", "status")
        assert (True, f"not on {place}: Address already in use") == (status["running"], status["tcp"])
        assert not (shell.home / ".tasak" / "daemon.token").exists()


def test_a_port_is_shared_with_nobody(front):
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", front.port), reuse_port=True)


def test_without_a_port_there_is_none():
    with Shell() as shell:
        shell.configure({"fast": FAST_APP})
        shell("fast", "echo", "--text", "hello")

        daemon = psutil.Process(shell.daemon_pid)

        assert [] == daemon.net_connections("inet")
        assert "tcp" not in shell.json("daemon", "status")


@pytest.mark.parametrize("what", ["link", "folder", "open"])
def test_whatever_stands_in_the_place_of_the_token_is_not_followed(what):
    with Shell() as shell:
        state = shell.home / ".tasak"
        state.mkdir(0o700)
        token, victim = state / "daemon.token", shell.home / "victim"
        victim.write_text("mine")
        {"link": lambda: token.symlink_to(victim), "folder": token.mkdir, "open": lambda: token.touch(0o666)}[what]()
        shell.env["TASAK_DAEMON_PORT"] = str(free_port())
        shell.configure({"fast": FAST_APP})

        assert "hello\n" == shell("fast", "echo", "--text", "hello").stdout
        until(lambda: "tcp" in shell.json("daemon", "status"))

        assert "mine" == victim.read_text()
        if what == "folder":
            assert "not on" in shell.json("daemon", "status")["tcp"]
        else:
            assert stat.S_ISREG(os.lstat(token).st_mode)
            assert 0o600 == stat.S_IMODE(os.lstat(token).st_mode)
