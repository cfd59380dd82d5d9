"""What a hostile server says, on a real terminal, in a pipe and in the logs: it is shown, and it does nothing."""

import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import tty
import unicodedata
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.shell import PATIENCE, Shell

pytestmark = [pytest.mark.slow, pytest.mark.keeps("its tests share a daemon")]

SERVER = Path(__file__).with_name("hostile.py")

ATTACKS = {
    "the clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "the title": "\x1b]0;owned\x07",
    "the screen": "\x1b[2J\x1b[H\x1b[8m",
    "C1": "\x9b31m \x85 \x90q\x9c",
    "a link": "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\",
    "the start of the line": "fine\rgone",
    "the letters before": "no\b\b\x7fyes",
    "the order": "\u202egpj.exe\u202c \u2066x\u2069 \u061c\u200e\u200f",
    "what no one sees": "\U000e0001\U000e0041\U000e007f\ufeff",
    "line ends": "a\u2028b\u2029c\x0bd\x0ce",
    "a device's own commands": "\x1bP+q544e\x1b\\ \x1b_x\x1b\\ \x1b^y\x1b\\",
    "what was said in small": "\x00\x01\x0e\x0f\x1f",
}
MARKUP = "[red]x[/red] [link=https://evil.example]y[/link] [/] :skull: [bold"
# What people write, and what our own marks are made of.
KEPT = "zażółć gęślą jaźń 漢字 한국어 שלום 👩\u200d💻 ❤\ufe0f क्\u200cष " + MARKUP
# A line of ours, and one of the log: as if they were there.
FORGED = '\ntasak: forged\n{"event": "forged", "level": "error"}\n  forged\n'
SAYS = " ".join(ATTACKS.values()).replace("\x00", "") + KEPT + FORGED + "the end"

# Joiners are part of what people write. What is in no category here does nothing to a terminal.
JOINERS = "\u200c\u200d"
# The headings of a table, which are ours.
BOLD = re.compile("\x1b\\[1m|\x1b\\[0m")


class Seen(NamedTuple):
    """What a command left with, and what its terminal got, both streams together."""

    status: int
    text: str


class User(Shell):
    """With a daemon, and hostile apps that it has met: `hostile`, which answers; `dying` and `refusing`."""

    def __init__(self) -> None:
        super().__init__()
        (self.home / "says").write_text(SAYS)
        ways = {"hostile": "answer", "dying": "die", "refusing": "refuse"}
        more = {"init_attempts": 1}
        self.configure({name: self.app(way) | more for name, way in ways.items()})
        for app in ways:
            self(app)

    def app(self, way: str) -> dict[str, Any]:
        command = [sys.executable, "-I", "-S", str(SERVER), str(self.home / "says"), way]
        return {"command": command, "description": MARKUP}

    def on_terminal(self, *words: str, **env: str) -> Seen:
        """Run the command where all of its streams are a terminal, which changes nothing of what it is sent."""
        ours, its = pty.openpty()
        try:
            tty.setraw(its)
            ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 100, 5000, 0, 0))
            env = {**self.env, "TERM": "xterm-256color", **env}
            process = self.start(*words, stdin=its, stdout=its, stderr=its, env=env)
        finally:
            os.close(its)
        content = bytearray()
        with process, open(ours, "rb", buffering=0) as terminal:
            while piece := read(terminal.fileno()):
                content += piece
            status = process.wait(PATIENCE)
        return Seen(status, content.decode())

    def log(self) -> list[str]:
        return (self.home / ".tasak" / "daemon.log").read_text().splitlines()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody has its other end any more
        return b""


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with User() as made:
        yield made


def active(text: str) -> list[str]:
    """Those of its characters that do something, or cannot be seen."""
    return sorted(
        {
            f"U+{ord(character):04X}"
            for character in BOLD.sub("", text)
            if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs")
            if character not in "\n\t" + JOINERS
        }
    )


on_both_roads = pytest.mark.parametrize(
    "road",
    [[], pytest.param(["--no-daemon"], marks=[pytest.mark.slow, pytest.mark.timeout(180)])],
    ids=["daemon", "direct"],
)


def test_the_texts_that_are_sent_here_would_act():
    assert 25 < len(active(SAYS))
    assert [] == active(KEPT)


# ── on a terminal ────────────────────────────────────────────────────────────────────────────────────────────────


@on_both_roads
@pytest.mark.parametrize("form", [[], pytest.param(["--json"], marks=pytest.mark.slow)], ids=["text", "json"])
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["hostile"], 0),
        (["hostile", "say", "--help"], 0),
        (["hostile", SAYS, "--help"], 0),
        (["hostile", "say"], 0),
        (["hostile", SAYS], 0),
        (["hostile", "structure"], 0),
        (["hostile", "progress"], 0),
        (["hostile", "complain"], 0),
        (["hostile", "fail"], 5),
        (["hostile", "refuse"], 5),
        (["hostile", "sya"], 2),
        (["hostile", "say", "--one", SAYS[:-1]], 2),
        (["hostile", "say", SAYS], 2),
        (["dying", "say"], 4),
        (["refusing", "say"], 4),
    ],
    ids=lambda given: given[-1][:6] if isinstance(given, list) else "",
)
def test_what_a_server_says_is_inert_on_a_terminal(user, road, form, words, status):
    seen = user.on_terminal(*road, *form, *words)

    assert (status, []) == (seen.status, active(seen.text))
    if form:
        json.loads(document_in(seen.text))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["ping", "hostile"],
        ["ping", "--deep", "hostile"],
        ["ping", "dying"],
        ["connections"],
        ["daemon", "status"],
        ["plugins"],
        ["metrics"],
        ["auth", "status"],
        ["--json"],
        ["--json", "ping", "--deep", "hostile"],
        ["--json", "connections"],
        ["--json", "daemon", "status"],
        ["--json", "metrics"],
        ["daemon", "logs"],
    ],
    ids=" ".join,
)
def test_what_is_told_of_a_server_is_inert_on_a_terminal(user, words):
    seen = user.on_terminal(*words)

    assert [] == active(seen.text)
    assert seen.text.strip()
    assert [] == [line for line in seen.text.splitlines() if line.startswith(("tasak: forged", '{"event": "forged"'))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["hostile", "refuse"], ["dying", "say"], ["refusing", "say"], ["hostile", "complain"]]
)
def test_with_debug_its_traceback_and_its_log_are_inert_too(user, words):
    seen = user.on_terminal("--debug", *words)

    assert [] == active(seen.text)
    assert "Traceback" in seen.text or "complain" in words
    assert 1 != seen.status


def test_an_earlier_answer_is_inert_on_a_terminal(user):
    user("--call-id", "earlier", "hostile", "say")

    for form in ([], ["--json"]):
        seen = user.on_terminal(*form, "outcome", "earlier")

        assert (0, []) == (seen.status, active(seen.text))
        assert KEPT in seen.text


def test_what_people_write_is_on_the_terminal_as_they_wrote_it(user):
    seen = user.on_terminal("hostile", "say")

    assert KEPT in seen.text
    assert r"\x1b]52;c;cm0gLXJm\x07" in seen.text
    assert r"\u202egpj.exe" in seen.text


def test_markup_is_text(user):
    table = user.on_terminal().text

    assert MARKUP in table


def test_no_line_of_an_error_looks_like_one_of_ours(user):
    for words in (["hostile", "refuse"], ["refusing", "say"], ["hostile", "progress"]):
        done = user(*words)
        seen = user.on_terminal(*words)

        said = done.stderr + (seen.text if words != ["hostile", "progress"] else "")
        assert [] == [line for line in said.splitlines() if line.startswith(("tasak: forged", "  forged"))]


def document_in(text: str) -> str:
    """The JSON among the lines on stderr, which tell how far a call is."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("tasak: "))


# ── in a pipe ────────────────────────────────────────────────────────────────────────────────────────────────────


def of_rfc_8259(text: str) -> Any:
    """The value of a JSON document; two readers agree on it, where there are two."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    value = json.loads(text, parse_constant=refuse)
    if node := shutil.which("node"):
        echo = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf-8'))))"
        read = subprocess.run(
            [node, "-e", echo], input=text.encode(), capture_output=True, check=True, timeout=PATIENCE
        )
        assert value == json.loads(read.stdout)
    return value


@on_both_roads
def test_a_pipe_gets_the_bytes_that_were_sent(user, road):
    started = user.start(*road, "hostile", "say")
    out, _ = started.communicate(timeout=PATIENCE)

    assert f"{SAYS}\n".encode() == out


@on_both_roads
def test_json_has_what_was_sent_and_is_json(user, road):
    called = of_rfc_8259(user(*road, "--json", "hostile", "say").stdout)
    structured = of_rfc_8259(user(*road, "--json", "hostile", "structure").stdout)
    listed = of_rfc_8259(user(*road, "--json", "hostile").stdout)
    failed = of_rfc_8259(user(*road, "--json", "hostile", "refuse").stdout)

    assert [{"type": "text", "text": SAYS}] == called["content"]
    assert {SAYS: SAYS} == structured["structuredContent"]
    assert SAYS == listed["tools"][-1]["name"]
    assert SAYS == listed["tools"][0]["inputSchema"]["properties"]["text"]["default"]
    assert "server_error" == failed["error"]["code"]


@pytest.mark.parametrize(
    "words",
    [[], ["ping", "--deep", "hostile"], ["ping", "refusing"], ["connections"], ["daemon", "status"], ["metrics"],
     ["plugins"], ["outcome", "nobody"], ["dying", "say"], ["refusing"], ["hostile", "sya"], ["hostile", "say", "--x"]],
    ids=" ".join,
)  # fmt: skip
def test_every_document_is_json(user, words):
    assert of_rfc_8259(user("--json", *words).stdout)


# ── in the logs ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_line_of_the_daemons_log_is_a_record_of_the_daemons(user):
    user("hostile", "complain")
    user("daemon", "restart", "--log-level", "DEBUG")
    for words in (["hostile", "complain"], ["hostile", "refuse"], ["dying", "say"], ["refusing", "say"]):
        user(*words)

    records = [json.loads(line) for line in user.log()]

    assert records
    assert [] == [each for each in records if not {"event", "level", "timestamp", "logger"} <= each.keys()]
    assert [] == [each for each in records if each["event"] == "forged"]
    assert [] == active("\n".join(user.log()))


def test_an_apps_log_has_what_its_stderr_said_and_no_more_than_that_inert(user):
    (log,) = (user.home / ".tasak").glob("**/hostile*.log")
    text = log.read_text()

    assert [] == active(text)
    assert KEPT in text
    assert text.count("\n") == text.count("the end") * (SAYS.count("\n") + 1)


# ── as it changes ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_the_difference_between_what_was_and_what_is_said_is_inert_too(user):
    user.configure({"changing": user.app("answer") | {"on_tool_change": "warn"}})
    user("changing")
    says = user.home / "says"
    says.write_text(SAYS.replace("fine", "FINE") + FORGED)
    user("daemon", "restart")

    called = user.on_terminal("changing", "say")
    checked = user.on_terminal("lock", "--check", "changing")
    locked = user.on_terminal("lock", "changing")
    looked = user.on_terminal("doctor")
    read = user.on_terminal("read", "changing", "say")
    (difference,) = (user.home / ".tasak" / "tools").glob("changing-*.diff")

    assert "say is changed" in called.text
    assert "FINE" in difference.read_text()
    assert [] == active(difference.read_text())
    assert [0, 8] == [called.status, read.status]
    for seen in (called, checked, locked, looked, read):
        assert [] == active(seen.text)
    for seen in (checked, locked, looked, read):
        assert [] == [line for line in seen.text.splitlines() if line.startswith(("tasak: forged", "  forged"))]
