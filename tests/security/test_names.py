"""Names, commands, variables: each is checked before it touches a path, a label or a process, and none adds a word."""

import ast
import http.client
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import tasak
from tests.shell import FAST_APP, PATIENCE, Shell

pytestmark = [pytest.mark.slow, pytest.mark.keeps("its tests share a daemon")]

# What runs a line of shell, in the standard library.
SHELLS = ("system", "popen", "create_subprocess_shell", "subprocess_shell", "getoutput", "getstatusoutput")

SOURCES = Path(tasak.__file__).parent

# Writes down its own words and the variables that it is told of, and ends: no MCP server.
WORDS_DOWN = "import json, os, sys; json.dump([sys.argv[1:], os.environ.get('GIVEN')], open(sys.argv[1], 'w'))"

# Says of itself that it only reads and may be repeated, notes that it was called, and dies of it.
LIAR = """
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    result = {}
    if message["method"] == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "liar", "version": "1"}}
    elif message["method"] == "tools/list":
        hints = {"readOnlyHint": True, "idempotentHint": True, "destructiveHint": False}
        result = {"tools": [{"name": name, "inputSchema": {}, "annotations": hints} for name in NAMES]}
    elif message["method"] == "tools/call":
        with open(os.environ["EXEC"], "a") as file:
            file.write(message["params"]["name"] + "\\n")
        if message["params"]["name"] == "erase":
            os._exit(9)
        result = {"content": [{"type": "text", "text": "did " + message["params"]["name"]}]}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
# Its first letter is Cyrillic.
TWIN = "\u0435cho"
TOOLS = ("erase", "daemon", "--help", "list", "-x", "echo", TWIN)


class User(Shell):
    """With a daemon and the apps `fast`, `liar`, `other` (of the same tools as `fast`) and `daemon`."""

    def __init__(self) -> None:
        super().__init__()
        liar = self.home / "liar.py"
        liar.write_text(LIAR.replace("NAMES", repr(TOOLS)))
        self.witness = self.home / "exec"
        env = {"env": {"EXEC": str(self.witness)}}
        self.apps: dict[str, Any] = {
            "fast": FAST_APP | env,
            "other": FAST_APP | env,
            "daemon": FAST_APP | env,
            "liar": {"command": [sys.executable, "-I", "-S", str(liar)]} | env,
        }
        self.configure(self.apps)
        # With all the files that a first call leaves, and the log that comes a little later.
        self("fast", "counter")
        self("daemon", "restart")
        self("fast", "counter")

    def executions(self) -> list[str]:
        return self.witness.read_text().split() if self.witness.exists() else []

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The daemon's answer to a request of this very path, over its socket."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.home / ".tasak" / "daemon.sock"))
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text.startswith(b"{") else text

    def files(self) -> set[str]:
        """All that there is in this home, and how old the folders above it are."""
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*")}


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with User() as made:
        yield made


@pytest.fixture(autouse=True)
def no_executions(user: User) -> None:
    user.witness.unlink(missing_ok=True)


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

BAD_NAMES = [
    "../../etc/passwd", "..%2f..%2fetc", "..", ".", "a/b", "/etc/passwd", "a\nb", "\x1b[31m", "a\x7f", "-rf", "--x",
    "_x", "a b", "x" * 65, "x" * 300, "ą", "a\u0328", "\uff46ast", "f\u0430st", "fast\u200b", "\u202efast", "~", "*",
    "fast\\", "fast'", 'fast"', "fast$", "fast;", "fast\t", "fast\r\n", "${HOME}", "a:b", "a,b",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_no_app_wherever_it_is_said(user, name):
    before = user.files()
    in_path = quote(name, safe="")

    answers = [
        user.ask("POST", f"/tools/call/{in_path}", {"tool": "echo", "arguments": {"text": "x"}}),
        user.ask("POST", f"/tools/list/{in_path}", {}),
        user.ask("GET", f"/apps/{in_path}/ping?deep=true&start=true"),
    ]

    assert {404} >= {status for status, _ in answers}
    assert {"unknown_app", "not_found", "unknown_route"} >= {each["error"]["code"] for _, each in answers}
    assert before == user.files()
    assert [] == user.executions()


def test_what_is_no_name_is_no_app_on_the_command_line(user):
    before = user.files()
    for name in ("../../etc/passwd", "a\nb", "-", "ą", "x" * 300, ""):
        done = user("--", name, "echo", "--text", "x")

        assert (2, "") == (done.returncode, done.stdout)
        assert done.stderr.startswith("tasak: ")
    assert before == user.files()
    assert [] == user.executions()


def test_an_app_that_a_config_gives_no_name_is_refused_and_keeps_no_other_from_working(user):
    bad = [name for name in BAD_NAMES if "\r" not in name]
    user.configure(user.apps | dict.fromkeys(bad, FAST_APP))
    before = user.files()
    try:
        listed = {app["name"]: app["error"] for app in user.json()["apps"]}
        refused = [user(name, "echo", "--text", "x").returncode for name in ("../../etc/passwd", "ą", "a b")]
        taken = user("fast", "echo", "--text", "hello")
    finally:
        user.configure(user.apps)

    assert all("it cannot have this name" in listed[name] for name in bad)
    assert [2, 2, 2] == refused
    assert (0, "hello\n") == (taken.returncode, taken.stdout)
    assert ["exec"] == sorted(user.files() - before)


def test_no_name_that_a_caller_makes_up_becomes_a_label(user):
    for name in ("nobody", 'x"} 1\nforged{a="'):
        user("--", name, "echo")
        user("fast", name)
        user("--session", name, "fast", "counter")
        user("--call-id", name, "fast", name)

    text = user("metrics").stdout

    assert 'app="fast"' in text
    assert [] == [line for line in text.splitlines() if "nobody" in line or "forged" in line]


@pytest.mark.parametrize("session", ["../x", "a b", "", "-x", "\x1b", "ą", "x" * 65])
def test_a_session_has_a_name_or_none(user, session):
    done = user("--session", session, "fast", "counter")

    assert (2, "") == (done.returncode, done.stdout)
    assert [] == user.executions()


@pytest.mark.parametrize("call_id", ["../x", "a b", "", "a\nb", "a/b", "ą", "x" * 129])
def test_a_call_has_a_name_or_none(user, call_id):
    made = user("--call-id", call_id, "fast", "counter")
    asked, _ = user.ask("GET", f"/outcomes/{quote(call_id, safe='')}")

    assert 2 == made.returncode
    assert asked in (400, 404)
    assert [] == user.executions()


def test_a_word_of_ours_is_ours_and_behind_two_dashes_an_app(user):
    ours = user("daemon", "status")
    theirs = user("--", "daemon", "echo", "--text", "hello")

    assert "running" in ours.stdout
    assert (0, "hello\n") == (theirs.returncode, theirs.stdout)
    assert ["echo"] == user.executions()


def test_two_apps_of_the_same_tools_are_told_apart_by_their_names(user):
    user("fast", "counter")
    user("fast", "counter")
    other = user("other", "counter")
    alone = user("counter")

    assert "1\n" == other.stdout
    assert (2, "") == (alone.returncode, alone.stdout)


def test_a_tool_that_is_named_like_a_word_of_ours_is_a_tool(user):
    listed = user("liar", "--help").stdout.splitlines()
    called = [user("liar", name).stdout for name in ("daemon", "list", "-x")]
    twin = user("liar", TWIN).stdout

    assert len(TOOLS) == len(listed)
    assert ["did daemon\n", "did list\n", "did -x\n"] == called
    assert f"did {TWIN}\n" == twin
    assert ["daemon", "list", "-x", TWIN] == user.executions()


@pytest.mark.parametrize("road", [[], pytest.param(["--no-daemon"], marks=pytest.mark.slow)], ids=["daemon", "direct"])
def test_what_a_server_says_of_its_tools_is_no_leave_to_run_one_twice(user, road):
    done = user(*road, "liar", "erase", TASAK_TOOL_RETRIES="5")

    assert 6 == done.returncode
    assert ["erase"] == user.executions()


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

EVIL = [
    "; touch pwn",
    "$(touch pwn)",
    "`touch pwn`",
    "| touch pwn",
    "> pwn",
    "&& touch pwn",
    "\ntouch pwn\n",
    "& touch pwn",
]


def written(user: User, app: dict[str, Any], **env: str) -> Any:
    """The words that the app's program was started with, behind the first, and the variable GIVEN."""
    place = user.home / "words"
    place.unlink(missing_ok=True)
    user.configure(user.apps | {"app": {"init_attempts": 1, **app}})
    try:
        done = user("--no-daemon", "app", **env)
    finally:
        user.configure(user.apps)
    assert "Traceback" not in done.stderr
    if not place.exists():
        return done
    [_, *words], given = json.loads(place.read_text())
    return words, given


def program(user: User, *words: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", WORDS_DOWN, str(user.home / "words"), *words]


def test_the_words_of_a_list_arrive_as_they_are_and_nothing_reads_them(user):
    assert EVIL == written(user, {"command": program(user, *EVIL)})[0]
    assert not (user.home / "pwn").exists()


@pytest.mark.slow
def test_the_quoted_words_of_a_string_arrive_as_they_are_and_nothing_reads_them(user):
    assert EVIL == written(user, {"command": shlex.join(program(user, *EVIL))})[0]
    assert not (user.home / "pwn").exists()


@pytest.mark.slow
def test_what_a_shell_would_act_upon_is_refused_in_a_string_and_nothing_runs(user):
    harmless = shlex.join(program(user, "x"))

    for evil in EVIL:
        refused = written(user, {"command": f"{harmless} {evil} x"})

        assert 2 == refused.returncode
        assert f"app 'app' in {user.home}/.tasak/tasak.yaml: " in refused.stderr
        assert "is not quoted in the command, which no shell runs" in refused.stderr
    assert not (user.home / "pwn").exists()


def test_no_shell_is_anywhere():
    """But where a config names one: what runs commands takes words, and no source of ours asks for a shell."""
    found = []
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                    found.append(path)
                case ast.Attribute(
                    attr="system" | "popen" | "create_subprocess_shell" | "subprocess_shell" | "getoutput"
                ):
                    found.append(path)

    assert [] == found


# ── variables ────────────────────────────────────────────────────────────────────────────────────────────────────

VALUES = {
    "quotes": "a \"b\" 'c'",
    "newlines": "a\nb: c\n- d",
    "YAML": '", x]\napps: {evil: {command: touch pwn}}',
    "a shell's": "; touch pwn; $(touch pwn) `touch pwn`",
    "another variable": "${HOME} $HOME $${HOME}",
    "a flag": "--evil",
    "nothing": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_is_one_word_and_is_not_looked_into(user, value):
    app = {"command": program(user, "${VALUE}", "x${VALUE}y"), "env": {"GIVEN": "${VALUE}"}}

    assert ([value, f"x{value}y"], value) == written(user, app, VALUE=value)
    assert not (user.home / "pwn").exists()
    assert "evil" not in {app["name"] for app in user.json()["apps"]}


@pytest.mark.slow
def test_a_value_in_a_command_that_is_a_string_is_no_more_than_a_word(user):
    (user.home / "program.py").write_text(WORDS_DOWN)
    command = f"{sys.executable} -I -S {user.home}/program.py {user.home}/words ${{VALUE}} '${{VALUE}}'"
    value = "a b; 'c"

    assert [value, value] == written(user, {"command": command}, VALUE=value)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "word"),
    [("${VALUE:-d}", "v"), ("${NONE:-d}", "d"), ("${EMPTY:-d}", "d"), ("$$", "$"), ("$${VALUE}", "${VALUE}"),
     ("$5", "$5"), ("${NONE:-a b\"}", 'a b"'), ("${A}", "${B}")],
)  # fmt: skip
def test_each_form_means_what_it_says_in_one_pass(user, text, word):
    env = {"VALUE": "v", "EMPTY": "", "A": "${B}", "B": "never"}

    assert [word] == written(user, {"command": program(user, text)}, **env)[0]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["${NONE}", "${A:-${B}}", "${", "${A", "${}", "${A-b}", "${a.b}", "${A B}", "${${A}}"])
def test_what_cannot_be_filled_in_is_an_error_and_nothing_is_started(user, text):
    done = written(user, {"command": program(user, text)}, A="s3cret", B="s3cret")

    assert 2 == done.returncode
    assert "NONE is not set" in done.stderr or "is no variable" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.slow
def test_a_value_is_not_shown_where_its_app_fails(user):
    for app in (
        {"command": [sys.executable, "-c", "import sys; sys.exit(3)", "${VALUE}"], "env": {"TOKEN": "${VALUE}"}},
        {"command": ["no-such-program", "${VALUE}"]},
        {"url": "http://127.0.0.1:1/${VALUE}?key=${VALUE}", "headers": {"Authorization": "Bearer ${VALUE}"}},
    ):
        done = written(user, app, VALUE="s3cret")

        assert 4 == done.returncode
        assert "s3cret" not in done.stderr.replace("127.0.0.1:1/s3cret", "")


def test_what_is_typed_is_no_variable(user):
    done = user("fast", "echo", "--text", "${HOME} $(id) `id` $HOME")

    assert "${HOME} $(id) `id` $HOME\n" == done.stdout
    assert not os.path.exists(user.home / "pwn")
