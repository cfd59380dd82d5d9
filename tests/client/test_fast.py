import hashlib
import http.client
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasak
from tasak import errors, wire
from tasak.client import fast
from tasak.paths import StateDir
from tests.client.daemon_stub import GO_AHEAD, PATIENCE, Caller, DaemonStub, Script, answer, listen_as, plain

ROOT = Path(tasak.__file__).parents[1]
NOBODY = 65534

# Whoever runs the tests in the background has SIGINT ignored, and we would inherit that.
INTERRUPTIBLE = "import _signal; _signal.signal(_signal.SIGINT, _signal.default_int_handler)\n"

# Calls, and tells as JSON what was handed over; the reply is read as the full CLI reads it.
DRIVER = """
import sys
from tasak.client import fast
left = fast.run(sys.argv[1:])
import _signal, json
told = {
    "state": left.state,
    "reply": None,
    "sigint": _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler,
    "sigpipe": _signal.getsignal(_signal.SIGPIPE) is _signal.SIG_IGN,
}
if left.reply is not None:
    import http.client, os, socket
    reply = socket.socket(fileno=left.reply.detach())
    told["blocking"] = os.get_blocking(reply.fileno())
    reply.settimeout(20)
    response = http.client.HTTPResponse(reply, method="POST")
    try:
        response.begin()
        told["reply"] = [response.status, response.read().decode()]
    except (http.client.HTTPException, OSError) as failure:
        told["reply"] = type(failure).__name__
sys.stderr.write("handover " + json.dumps(told))
"""


def command(*words: str | bytes, driver: str = INTERRUPTIBLE + DRIVER) -> list[str | bytes]:
    return [sys.executable, "-c", driver, *words]


def environment(home: Path | str | None, **more: str | bytes) -> dict[str, str | bytes]:
    names: dict[str, str | bytes] = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    return names | ({} if home is None else {"HOME": str(home)}) | more


def call(
    home: Path | str | None, *words: str | bytes, driver: str = INTERRUPTIBLE + DRIVER, **how: Any
) -> subprocess.CompletedProcess[bytes]:
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(home), "timeout": PATIENCE} | how
    return subprocess.run(command(*words, driver=driver), **how)


def handover(ended: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert ended.stderr.startswith(b"handover "), ended.stderr
    return json.loads(ended.stderr.removeprefix(b"handover "))


def state(ended: subprocess.CompletedProcess[bytes]) -> str:
    return handover(ended)["state"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A home where no daemon is; short, because socket paths are."""
    with tempfile.TemporaryDirectory(prefix="tasak", dir="/tmp") as made:
        yield Path(made)


# A plain answer


@pytest.mark.parametrize("status", [0, errors.TOOL_ERROR_EXIT])
def test_a_plain_answer_goes_to_stdout_byte_for_byte(status):
    body = bytes(range(256)) + b"\r\n\r\nno newline at the end"
    with DaemonStub(answer(plain(body, status=status))) as daemon:
        ended = call(daemon.home, "app", "tool")

    assert (status, body, b"") == (ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("status", [1, 2, 6, 255])
def test_what_a_failure_says_goes_to_stderr(status):
    with DaemonStub(answer(plain(b"tasak: no such tool\n", status=status))) as daemon:
        ended = call(daemon.home, "app", "tool")

    assert (status, b"", b"tasak: no such tool\n") == (ended.returncode, ended.stdout, ended.stderr)


def test_json_goes_to_stdout_whatever_the_exit_status_is():
    with DaemonStub(answer(plain(b"{}\n", status=4))) as daemon:
        ended = call(daemon.home, "--json", "app", "tool")

    assert (4, b"{}\n", b"") == (ended.returncode, ended.stdout, ended.stderr)
    assert "application/json" == daemon.caller.header("Accept")


def test_an_empty_answer_is_an_answer():
    with DaemonStub(answer(plain(b""))) as daemon:
        ended = call(daemon.home, "app", "tool")

    assert (0, b"", b"") == (ended.returncode, ended.stdout, ended.stderr)


def test_the_go_ahead_and_the_answer_may_come_in_one_piece():
    def eager(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD + plain(b"early"))
        caller.read_body()

    with DaemonStub(eager) as daemon:
        ended = call(daemon.home, "app", "tool")

    assert (0, b"early") == (ended.returncode, ended.stdout)


def test_the_go_ahead_may_come_in_crumbs_and_with_headers():
    def slow(caller: Caller) -> None:
        caller.read_head()
        for byte in b"HTTP/1.1 100 Go on\r\nDate: today\r\n\r\n":
            caller.send(bytes([byte]))
        caller.read_body()
        caller.send(plain(b"late"))

    with DaemonStub(slow) as daemon:
        ended = call(daemon.home, "app", "tool")

    assert (0, b"late") == (ended.returncode, ended.stdout)


def test_64_mib_go_through_a_pipe_unchanged():
    body = os.urandom(1 << 20) * 64
    with DaemonStub(answer(plain(body))) as daemon:
        process = subprocess.Popen(command("app", "tool"), stdout=subprocess.PIPE, env=environment(daemon.home))
        with process, process.stdout:
            came = hashlib.file_digest(process.stdout, "sha256").hexdigest()

    assert (0, hashlib.sha256(body).hexdigest()) == (process.returncode, came)


# The request


def test_the_request_has_the_headers_and_members_that_the_daemon_expects(home):
    with DaemonStub(answer(plain(b""))) as daemon:
        call(daemon.home, "app", "tool", "--flag", "--json", "-", cwd=home, env=environment(daemon.home, FOO="bär"))

    assert daemon.caller.head.startswith(b"POST /tools/call/app HTTP/1.1\r\nHost: ")
    assert "text/plain" == daemon.caller.header("Accept")
    assert "application/json" == daemon.caller.header("Content-Type")
    assert tasak.__version__ == daemon.caller.header("Tasak-Version")
    assert "100-continue" == daemon.caller.header("Expect")
    sent = json.loads(daemon.caller.body)
    assert environment(daemon.home, FOO="bär").items() <= sent.pop("env").items()
    assert {"tool": "tool", "argv": ["--flag", "--json", "-"], "cwd": os.path.realpath(home)} == sent


@pytest.mark.parametrize(
    "leading",
    [
        "--json --timeout 1.5 --session a --call-id b",
        "--call-id b --session a --timeout 1.5 --json",
        "--session=a --json --call-id=b --timeout=01.5",
        "--timeout 9 --timeout 1.5 --session c=d --session=a --call-id b --json",
    ],
)
def test_leading_options_come_in_any_order_and_either_form(leading):
    with DaemonStub(answer(plain(b""))) as daemon:
        ended = call(daemon.home, *leading.split(), "app", "tool", "--timeout", "x")

    sent = json.loads(daemon.caller.body)
    assert 0 == ended.returncode
    assert (1.5, "a", "b", ["--timeout", "x"]) == (sent["timeout"], sent["session"], sent["call_id"], sent["argv"])


def test_options_say_what_they_mean_in_json():
    words = ["--timeout", "007", "--session", '\u00e4"\\\udcff', "app", "tool"]

    _, _, members = fast.plain_call(words)

    assert {"timeout": 7, "session": '\u00e4"\\\udcff', "tool": "tool", "argv": []} == json.loads(fast.as_body(members))


def test_bytes_that_are_not_utf8_arrive_as_lone_surrogates():
    odd = b"\xff\xfe \xc3\xa9 \xed\xb2\x80 \x80"
    with DaemonStub(answer(plain(b""))) as daemon:
        environ = {os.fsencode(name): os.fsencode(value) for name, value in environment(daemon.home).items()}
        ended = call(None, "app", odd, odd, env=environ | {odd: odd})

    sent = json.loads(daemon.caller.body)
    assert 0 == ended.returncode
    assert "\udcff\udcfe é \udced\udcb2\udc80 \udc80" == sent["tool"]
    assert [odd] * 3 == [
        os.fsencode(sent["tool"]),
        os.fsencode(sent["argv"][0]),
        os.fsencode(sent["env"][sent["tool"]]),
    ]


# What an operating system can hand a process: anything but NUL; weighted towards what JSON and UTF-8 stumble on.
words_of_bytes = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.text(max_size=8, alphabet=st.characters(exclude_categories=["Cs"])).map(str.encode),
        st.sampled_from(
            [b'"', b"\\", b"\\u", b"\x7f", b"\n", b"\x1f", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xa9"]
        ),
    ),
    max_size=6,
).map(lambda pieces: b"".join(pieces).replace(b"\0", b""))


@given(argv=st.lists(words_of_bytes, max_size=5), env=st.dictionaries(words_of_bytes, words_of_bytes, max_size=5))
def test_the_body_gives_back_every_byte(argv, env):
    _, _, members = fast.plain_call(["app", "tool", *map(os.fsdecode, argv)])
    members["env"] = fast.as_object({fast.quote(name): fast.quote(value) for name, value in env.items()})

    sent = json.loads(fast.as_body(members))

    assert argv == [os.fsencode(word) for word in sent["argv"]]
    assert env == {os.fsencode(name): os.fsencode(value) for name, value in sent["env"].items()}


def test_an_argv_near_the_limit_goes_through():
    words = ["ä" * 60_000] * (os.sysconf("SC_ARG_MAX") * 8 // 10 // 120_000)
    with DaemonStub(answer(plain(b"ok"))) as daemon:
        ended = call(daemon.home, "app", "tool", *words)

    assert (0, b"ok") == (ended.returncode, ended.stdout)
    assert words == json.loads(daemon.caller.body)["argv"]


def test_a_terminal_on_stdout_is_told():
    master, slave = os.openpty()
    with DaemonStub(answer(plain(b"ok"))) as daemon:
        ended = call(daemon.home, "app", "tool", stdout=slave)
        os.close(slave)
        os.close(master)

    assert 0 == ended.returncode
    assert True is json.loads(daemon.caller.body)["tty"]


def test_a_locale_that_is_not_utf8_changes_nothing():
    with DaemonStub(answer(plain(b""))) as daemon:
        env = environment(daemon.home, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", WORD=b"\xc3\xa9\xff")
        ended = call(None, "app", b"\xc3\xa9", env=env)

    sent = json.loads(daemon.caller.body)
    assert (0, "é", "é\udcff") == (ended.returncode, sent["tool"], sent["env"]["WORD"])


# What is not a plain call


@pytest.mark.parametrize(
    "line",
    [
        "",
        "app",
        "list",
        "--help",
        "app ''",
        "'' tool",
        "app --help",
        "-x app tool",
        "-- app tool",
        "--json",
        "--json=1 app tool",
        "--no-daemon app tool",
        "--debug app tool",
        "--session",
        "--session= app tool",
        "--session '' app tool",
        "--session --json app tool",
        ".app tool",
        "_app tool",
        "äpp tool",
        "a/b tool",
        "'app\n' tool",
        f"{'a' * 65} tool",
        *(
            f"--timeout '{odd}' app tool"
            for odd in ["1s", ".5", "5.", "1.2.3", "1e3", "+1", "-1", "1_0", " 1", "inf", "٣", "²", "1.٣"]
        ),
    ],
)
def test_anything_but_a_plain_call_is_left_alone(line):
    assert None is fast.plain_call(shlex.split(line))


@pytest.mark.parametrize("app", ["a", "0", "app", "a.b_c-d", "A" * 64])
def test_a_name_is_a_name(app):
    assert app == fast.plain_call([app, "tool"])[0]


@given(st.text(st.characters(max_codepoint=300), max_size=70))
def test_names_are_what_the_design_says(app):
    assert bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", app)) == fast.is_name(app)


@pytest.mark.parametrize(("debug", "expected"), [("1", "idle"), ("x", "idle"), ("", "away"), ("0", "away")])
def test_debugging_is_left_to_the_full_cli(home, debug, expected):
    ended = call(home, "app", "tool", env=environment(home, TASAK_DEBUG=debug))

    assert expected == state(ended)


def test_a_vanished_working_directory_is_left_to_the_full_cli(home):
    with DaemonStub(answer(plain(b""))) as daemon:
        vanish = "import json, os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        ended = call(daemon.home, "app", "tool", driver=vanish + DRIVER, cwd=home)

    assert ("idle", []) == (state(ended), daemon.callers)


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_standard_stream_is_left_to_the_full_cli(closed):
    with DaemonStub(answer(plain(b""))) as daemon:
        script = f"{shlex.join(command('app', 'tool'))} {closed}"
        ended = subprocess.run(["/bin/sh", "-c", script], env=environment(daemon.home), capture_output=True)

    assert ("idle", []) == (state(ended), daemon.callers)


# No daemon to be had


def test_the_socket_is_where_the_state_folder_has_it(monkeypatch):
    with DaemonStub(answer(plain(b""))) as daemon:
        monkeypatch.setenv("HOME", str(daemon.home))

        assert StateDir.of_user().socket == daemon.path
        assert 0 == call(daemon.home, "app", "tool").returncode


def test_without_a_home_nobody_is_looked_for():
    assert ["away"] * 3 == [state(call(home, "app", "tool")) for home in (None, "", "relative")]


def test_without_a_daemon_it_is_away(home):
    assert {"state": "away", "reply": None, "sigint": True, "sigpipe": True} == handover(call(home, "app", "tool"))


@pytest.mark.parametrize("leftover", ["socket", "file", "folder"])
def test_whatever_else_stands_in_the_place_of_the_socket_is_no_daemon(home, leftover):
    path = home / ".tasak" / "daemon.sock"
    path.parent.mkdir()
    if leftover == "socket":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
    elif leftover == "file":
        path.touch()
    else:
        path.mkdir()

    assert "away" == state(call(home, "app", "tool"))


@pytest.mark.parametrize(("beyond", "expected"), [(0, "gone"), (1, "away")])
def test_a_path_too_long_for_a_socket_is_left_to_the_full_cli(home, beyond, expected):
    short, long = home / "x", home / ("x" * (fast.LONGEST_PATH - len(f"{home}//.tasak/daemon.sock") + beyond))
    (short / ".tasak").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as pool:
        listener.bind(str(short / ".tasak" / "daemon.sock"))
        listener.listen()
        short.rename(long)
        ended = pool.submit(call, long, "app", "tool")
        while not ended.done():
            if select.select([listener], [], [], 0.05)[0]:
                listener.accept()[0].close()

    assert expected == state(ended.result())


def test_a_folder_that_may_not_be_entered_is_a_sandbox():
    # `_socket` is loaded first, because nobody may not read root's library.
    driver = """
import _socket, os, sys
from tasak.client import fast
if not os.geteuid():
    os.seteuid(65534)
print(fast.run(sys.argv[1:]).state)
"""
    with DaemonStub(answer(plain(b""))) as daemon:
        daemon.path.parent.chmod(0)
        ended = call(daemon.home, "app", "tool", driver=driver)
        daemon.path.parent.chmod(0o700)

    assert (b"blocked\n", []) == (ended.stdout, daemon.callers)


def test_the_daemon_of_another_user_is_told_nothing(home, capsys):
    if os.geteuid() != 0:
        with capsys.disabled():
            sys.stdout.write("\nonly root can listen as another user: not tested here\n")
        pytest.skip("only root can listen as another user")
    (home / ".tasak").mkdir()
    with listen_as(NOBODY, home / ".tasak" / "daemon.sock") as listener:
        ended = call(home, "app", "tool")
        connection, _ = listener.accept()
        with connection:
            told = connection.recv(1)

    assert ("stranger", b"") == (state(ended), told)


# A daemon that does not say 100


def says_nothing(caller: Caller) -> None:
    caller.wait_for_hang_up()


def says_half(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD[:15])
    caller.wait_for_hang_up()


def says_a_crumb(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD[:5])
    caller.wait_for_hang_up()


def give_up(script: Script) -> tuple[str, bytes]:
    with DaemonStub(script) as daemon:
        ended = call(daemon.home, "app", "tool", timeout=wire.CONTINUE_TIMEOUT + 3)
        assert daemon.caller.has_hung_up.wait(PATIENCE)
    return state(ended), (daemon.caller.head + daemon.caller.body).partition(b"\r\n\r\n")[2]


@pytest.mark.slow
def test_the_wait_for_100_ends_with_nothing_sent_while_the_wait_for_the_answer_goes_on():
    is_waiting, has_others_given_up = threading.Event(), threading.Event()

    def take_long(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.read_body()
        is_waiting.set()
        assert has_others_given_up.wait(PATIENCE)
        caller.send(plain(b"at last"))

    with DaemonStub(take_long) as daemon, ThreadPoolExecutor() as pool:
        long = pool.submit(call, daemon.home, "app", "tool")
        assert is_waiting.wait(PATIENCE)
        given_up = list(pool.map(give_up, [says_nothing, says_half, says_a_crumb]))
        has_others_given_up.set()

    assert [("hung", b"")] * 3 == given_up
    assert (0, b"at last") == (long.result().returncode, long.result().stdout)


def test_a_daemon_whose_queue_is_full_is_hung(home):
    (home / ".tasak").mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(home / ".tasak" / "daemon.sock"))
        listener.listen(0)
        first.connect(listener.getsockname())
        ended = call(home, "app", "tool")

    # macOS refuses where Linux lets wait.
    assert ("away" if sys.platform == "darwin" else "hung") == state(ended)


@pytest.mark.parametrize("refusal", [b"503 Service Unavailable", b"404 Not Found", b"200 OK"])
def test_a_final_answer_in_place_of_100_is_handed_over_unread(refusal):
    def refuse(caller: Caller) -> None:
        caller.read_head()
        caller.send(b"HTTP/1.1 %s\r\nContent-Length: 8\r\nTasak-Exit: 0\r\n\r\ndraining" % refusal)
        caller.wait_for_hang_up()

    with DaemonStub(refuse) as daemon:
        told = handover(call(daemon.home, "app", "tool"))

    assert b"" == daemon.caller.body
    assert {
        "state": "unsent",
        "reply": [int(refusal[:3]), "draining"],
        "blocking": True,
        "sigint": True,
        "sigpipe": True,
    } == told


# A daemon that breaks off

CALLED_BACK = GO_AHEAD + plain(b"ok\n")


def cut_at(place: int) -> tuple[int, int, subprocess.CompletedProcess[bytes], int]:
    def cut(caller: Caller) -> None:
        caller.read_head()
        caller.send(CALLED_BACK[:place])
        if place >= len(GO_AHEAD):
            caller.read_body()

    with DaemonStub(cut) as daemon:
        ended = call(daemon.home, "app", "tool")
    return place, len(daemon.callers), ended, len(daemon.caller.body)


@pytest.fixture(scope="module")
def cuts() -> list[tuple[int, int, subprocess.CompletedProcess[bytes], int]]:
    # Those cut in the 100's first bytes wait for the rest of it: all at once.
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(cut_at, range(len(CALLED_BACK) + 1)))


def test_a_cut_before_the_whole_100_sends_nothing(cuts):
    before = [(ended, body) for place, _, ended, body in cuts if place < len(GO_AHEAD)]

    assert {0} == {body for _, body in before}
    assert {"hung", "gone"} == {state(ended) for ended, _ in before}
    assert {None} == {handover(ended)["reply"] for ended, _ in before}


def test_a_cut_in_the_head_of_the_answer_is_handed_over_as_sent(cuts):
    head = len(CALLED_BACK) - len(b"ok\n")
    handed_over = [handover(ended) for place, _, ended, _ in cuts if len(GO_AHEAD) <= place < head]

    assert {"sent"} == {told["state"] for told in handed_over}
    assert all(told["reply"] is not None for told in handed_over)


def test_a_cut_in_the_body_is_outcome_unknown(cuts):
    in_body = [ended for place, _, ended, _ in cuts if len(CALLED_BACK) - 3 <= place < len(CALLED_BACK)]

    assert [b"", b"o", b"ok"] == [ended.stdout for ended in in_body]
    assert {errors.OutcomeUnknown.exit_status} == {ended.returncode for ended in in_body}
    assert {b"tasak: the daemon broke off its answer; the call may have run\n"} == {ended.stderr for ended in in_body}


def test_no_cut_makes_a_second_connection_and_none_looks_like_success(cuts):
    assert {1} == {connections for _, connections, _, _ in cuts}
    assert [(0, b"ok\n")] == [
        (e.returncode, e.stdout) for _, _, e, _ in cuts if not e.returncode and b"handover" not in e.stderr
    ]


def test_a_refusal_in_the_middle_of_the_body_is_still_read():
    def refuse(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.connection.recv(1)
        caller.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")

    with DaemonStub(refuse) as daemon:
        told = handover(call(daemon.home, "app", "tool", *["x" * 100_000] * 6))

    assert ("sent", [413, "big"]) == (told["state"], told["reply"])


def test_a_daemon_reset_in_the_middle_of_its_answer_is_outcome_unknown():
    def die(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.connection.recv(1)
        caller.send(plain(b"ok\n")[:-1])

    with DaemonStub(die) as daemon:
        ended = call(daemon.home, "app", "tool")

    assert (errors.OutcomeUnknown.exit_status, b"ok") == (ended.returncode, ended.stdout)
    assert b"tasak: the daemon broke off its answer; the call may have run\n" == ended.stderr


# An answer that is not plain


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        (plain(b"ok", more="Tasak-Notice: warm%20state%20lost\r\n"), [200, "ok"]),
        (b"HTTP/1.1 200 OK\r\nTasak-Exit: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", [200, "ok"]),
        (plain(b"ok", more="Transfer-Encoding: identity\r\n"), [200, "ok"]),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nTasak-Exit: 2\r\n\r\nok", [404, "ok"]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", [200, "ok"]),
        (b"HTTP/1.1 200 OK\r\nTasak-Exit: 0\r\n\r\nok", [200, "ok"]),
        (plain(b"ok", status=256), [200, "ok"]),
        (plain(b"ok", status=-1), [200, "ok"]),
        (plain(b"ok", more="X-Long: " + "x" * fast.LONGEST_HEAD + "\r\n"), "LineTooLong"),
        (b"", "RemoteDisconnected"),
        (b"\0\r\n\r\n", "BadStatusLine"),
    ],
    ids=lambda given: None,
)
def test_an_answer_that_is_not_plain_is_handed_over_unread(reply, read):
    with DaemonStub(answer(reply)) as daemon:
        ended = call(daemon.home, "app", "tool")

    assert {"state": "sent", "reply": read, "blocking": True, "sigint": True, "sigpipe": True} == handover(ended)
    assert (0, b"") == (ended.returncode, ended.stdout)


odd_values = ["256", "-1", "+1", "1_0", "\u00b2", "", "1, 1", "5\r", "9" * 5000]
numbers = st.sampled_from(["0", "5", "255", " 7 ", "\t007", *odd_values])
odd_lines = [
    "tasak-notice: x",
    "Transfer-Encoding: chunked",
    "Content-Length: 1",
    "TASAK-EXIT:1",
    " folded",
    ": x",
    "X",
    "\r",
]
more_lines = st.lists(st.one_of(st.sampled_from(["Date: today", *odd_lines]), st.text(max_size=4)), max_size=2)
status_lines = st.sampled_from(
    ["HTTP/1.1 200 OK"] * 5 + ["HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1 500 Oops", ""]
)
lines = st.tuples(numbers.map("content-length:{}".format), numbers.map("Tasak-Exit: {}".format), more_lines).flatmap(
    lambda made: st.permutations([*made[:2], *made[2]])
)


@settings(max_examples=300)
@given(status_lines, lines, st.sampled_from(["\r\n\r\n", "\r\n\r\nok", "\r\n", ""]))
def test_what_is_called_plain_is_what_http_client_reads(status_line, lines, end):
    seen = "\r\n".join([status_line, *lines]).encode() + end.encode()

    found = fast.plain_answer(seen)

    if found is not None:
        read = as_http_client_reads(seen)
        assert (seen.index(b"\r\n\r\n") + 4, 200) == (found[0], read.status)
        assert found[1:] == (read.length, int(read.headers["Tasak-Exit"]))
        assert [None, None] == [read.headers["Tasak-Notice"], read.headers["Transfer-Encoding"]]


def as_http_client_reads(head: bytes) -> http.client.HTTPResponse:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(head)
        theirs.close()
        response = http.client.HTTPResponse(ours, method="POST")
        response.begin()
        return response


def test_a_plain_head_is_found_plain():
    head = b"HTTP/1.1 200 OK\r\ncontent-length:3\r\nTASAK-EXIT: \t5 \r\n\r\n"

    assert (len(head), 3, 5) == fast.plain_answer(head + b"abc")


@pytest.mark.parametrize("odd", ["X", " folded", "X Y: 1", ": 1", "", "tasak-exit: 5", "Content-Length: 3", "\r"])
def test_a_head_with_an_odd_line_is_not_plain(odd):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{odd}\r\nTasak-Exit: 5\r\n\r\nabc"

    assert None is fast.plain_answer(head.encode())


# Signals


def begin(home: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home))


@pytest.mark.parametrize("is_sent", [False, True])
def test_an_interrupted_call_dies_of_the_signal_and_hangs_up(is_sent):
    is_waiting = threading.Event()

    def wait(caller: Caller) -> None:
        caller.read_head()
        if is_sent:
            caller.send(GO_AHEAD)
            caller.read_body()
        is_waiting.set()
        caller.wait_for_hang_up()

    with DaemonStub(wait) as daemon:
        process = begin(daemon.home, "app", "tool")
        assert is_waiting.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert daemon.caller.has_hung_up.wait(PATIENCE)

    assert (-signal.SIGINT, b"", b"") == (process.returncode, out, err)


def test_an_inherited_ignored_sigint_stays_ignored():
    is_waiting, is_interrupted = threading.Event(), threading.Event()

    def wait(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.read_body()
        is_waiting.set()
        assert is_interrupted.wait(PATIENCE)
        caller.send(plain(b"done"))

    with DaemonStub(wait) as daemon:
        ignoring = ["/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command("app", "tool", driver=DRIVER)]
        process = subprocess.Popen(ignoring, stdout=subprocess.PIPE, env=environment(daemon.home))
        assert is_waiting.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        is_interrupted.set()
        out, _ = process.communicate(timeout=PATIENCE)

    assert (0, b"done") == (process.returncode, out)


def test_a_reader_who_has_enough_ends_us_by_sigpipe():
    with DaemonStub(broken_by_the_reader) as daemon:
        process = begin(daemon.home, "app", "tool")
        first = process.stdout.read(1)
        process.stdout.close()
        process.wait(PATIENCE)
        err = process.stderr.read()
        process.stderr.close()

    assert (b"x", -signal.SIGPIPE, b"") == (first, process.returncode, err)


def broken_by_the_reader(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD)
    caller.read_body()
    try:
        caller.send(plain(b"x" * (8 << 20)))
    except BrokenPipeError:
        caller.has_hung_up.set()


# Odd outputs


@pytest.mark.parametrize(
    ("path", "mode"), [("/dev/null", "rb"), *([("/dev/full", "wb")] if os.path.exists("/dev/full") else [])]
)
def test_an_output_that_cannot_be_written_is_said(path, mode):
    with DaemonStub(answer(plain(b"ok"))) as daemon, open(path, mode) as output:
        ended = call(daemon.home, "app", "tool", stdout=output)

    assert errors.InternalError.exit_status == ended.returncode
    assert re.fullmatch(rb"tasak: cannot write the result: [A-Z][a-z ]+\n", ended.stderr)


def test_a_slow_reader_of_a_non_blocking_pipe_gets_it_all():
    body = os.urandom(1 << 20)
    with DaemonStub(answer(plain(body))) as daemon:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        process = subprocess.Popen(command("app", "tool"), stdout=writing, env=environment(daemon.home))
        os.close(writing)
        with open(reading, "rb", buffering=0) as pipe:
            came = b"".join(iter(lambda: pipe.read(1000), b""))
        process.wait(PATIENCE)

    assert (0, True) == (process.returncode, body == came)


# What it costs


def modules_loaded_by(*arguments: str, home: Path) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], env=environment(home), capture_output=True, timeout=PATIENCE
    )
    assert 0 == ended.returncode
    return {line.rpartition("|")[2].strip() for line in ended.stderr.decode().splitlines()}


def test_a_plain_call_loads_next_to_nothing():
    with DaemonStub(answer(plain(b"ok"))) as daemon:
        driver = "from tasak.client import fast; import sys; fast.run(sys.argv[1:])"
        loaded = modules_loaded_by("-c", driver, "app", "tool", home=daemon.home)
        bare = modules_loaded_by("-c", "pass", home=daemon.home)

    assert {"tasak", "tasak.client", "tasak.client.fast", "tasak.wire", "_socket"} == loaded - bare


def test_its_numbers_are_those_of_the_error_tree():
    assert (errors.TOOL_ERROR_EXIT, errors.InternalError.exit_status, errors.OutcomeUnknown.exit_status) == (
        fast.TOOL_ERROR,
        fast.INTERNAL_ERROR,
        fast.OUTCOME_UNKNOWN,
    )
