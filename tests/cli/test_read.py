"""`tasak read` and `tasak trust`, with the real command: what an agent can do that is allowed this prefix alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.people import Home, as_root
from tests.shell import FAST_APP, Shell

pytestmark = pytest.mark.keeps("the tests share a daemon, whose servers stay warm")

COUNTER = {"counter": {"read_only": True}}
ECHO = {"echo": {"read_only": True}}
CALL = ["fast", "echo", "--text", "x"]


class Agent(Shell):
    """Someone whose commands begin with `tasak read`, at a user's who has a few apps and a project of whoever's."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = FAST_APP | {"env": {"EXEC": str(self.home / "exec")}}
        own = self.fast | {"tools": COUNTER}
        self.configure({"fast": own, "read": self.fast | {"tools": ECHO}, "list": self.fast | {"tools": ECHO}})
        self.project = self.home / "project"
        theirs = self.fast | {"tools": {**COUNTER, **ECHO}, "trusted": True}
        self.file = self.configure({"fast": theirs, "theirs": theirs}, self.project)

    def ran(self) -> list[str]:
        witness = self.home / "exec"
        return witness.read_text().split() if witness.exists() else []


@pytest.fixture(scope="module")
def shared() -> Iterator[Agent]:
    with Agent() as made:
        yield made


@pytest.fixture
def agent(shared: Agent) -> Agent:
    """With nothing witnessed yet, and nothing trusted."""
    (shared.home / "exec").unlink(missing_ok=True)
    (shared.home / ".tasak" / "trusted.json").unlink(missing_ok=True)
    return shared


ROADS = [
    pytest.param((), {}, id="daemon"),
    pytest.param(("--no-daemon",), {}, id="no-daemon", marks=pytest.mark.slow),
    pytest.param((), {"TASAK_DEBUG": "1"}, id="debug", marks=pytest.mark.slow),
    pytest.param(("--session", "mine"), {}, id="session", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("before", "env"), ROADS)
def test_what_is_read_only_is_called_and_nothing_else_on_every_road(agent, before, env):
    done = agent(*before, "read", "fast", "counter", **env)
    denied = agent(*before, "read", *CALL, **env)

    assert (0, True) == (done.returncode, done.stdout.strip().isdigit())
    assert (8, "") == (denied.returncode, denied.stdout)
    assert "tasak: fast echo: it is not declared read-only, and `tasak read` calls nothing else\n" in denied.stderr
    assert ["counter"] == agent.ran()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--", *CALL], 8),
        (["--json", *CALL], 8),
        (["fast", "echo", "--help"], 8),
        (["--config", "project/tasak.yaml", *CALL], 2),
        (["--no-daemon", *CALL], 2),
        (["--debug", *CALL], 2),
        (["--session", "x", *CALL], 2),
        (["--call-id", "x", *CALL], 2),
        (["--timeout", "9", *CALL], 2),
        (["fast", "--no-daemon", "echo", "--text", "x"], 2),
        (["fast", "--", "echo", "--text", "x"], 2),
        (["fast", "counter", "--", "echo"], 2),
        (["read", *CALL], 8),
        (["read", "read", *CALL], 8),
        (["list", "counter"], 8),
        (["theirs", "echo", "--text", "x"], 2),
        (["project/fast", "echo", "--text", "x"], 2),
        (["../call/fast", "echo", "--text", "x"], 2),
        (["fast?x=", "echo", "--text", "x"], 2),
        (["", "echo", "--text", "x"], 2),
        (["f\udcffst", "echo", "--text", "x"], 2),
        ([], 2),
    ],
)
def test_nothing_that_stands_behind_it_widens_it(agent, words, status):
    done = agent("read", *words)

    assert (status, []) == (done.returncode, agent.ran())
    assert "a bug in tasak" not in done.stderr


@pytest.mark.slow
def test_a_request_within_the_name_of_an_app_is_a_name_that_no_app_has(agent):
    body = json.dumps({"tool": "echo", "arguments": {"text": "x"}})
    head = f"Host: tasak\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    name = f"fast HTTP/1.1\r\n{head}{body}POST /tools/call/fast"
    agent("read", "fast", "counter")

    done = [agent("read", name, "counter"), agent("read", name), agent("ping", name)]

    assert ([2, 2, 2], ["counter"]) == ([each.returncode for each in done], agent.ran())


@pytest.mark.parametrize(("before", "env"), ROADS[:2])
def test_neither_the_environment_nor_the_folder_widens_it(agent, before, env):
    named = agent(*before, "read", *CALL, **env, TASAK_CONFIG=str(agent.file))
    redefined = agent(*before, "read", "fast", "counter", cwd=agent.project, **env)
    theirs = agent(*before, "read", "theirs", "counter", cwd=agent.project, **env)

    assert [8, 8, 8] == [named.returncode, redefined.returncode, theirs.returncode]
    assert f"tasak: fast: it stands in {agent.file}, which is not trusted, and `tasak read` uses no" in named.stderr
    assert f"tasak: {agent.file} redefines the app 'fast' of {agent.home}/.tasak/tasak.yaml" in redefined.stderr
    assert f"if all that it says shall hold: tasak trust {agent.project}\n" in theirs.stderr
    assert [] == agent.ran()


def test_it_hands_no_file_to_a_tool(agent):
    agent.home.joinpath("secret.json").write_text('{"text": "s3cret"}')

    for words in (["--args", "@secret.json"], ["--args=@secret.json"]):
        done = agent("read", "list", "echo", *words)

        assert (8, "") == (done.returncode, done.stdout)
        assert "`tasak read` hands no file of yours to a tool" in done.stderr
    assert "plain\n" == agent("read", "list", "echo", "--args", "-", stdin='{"text": "plain"}').stdout
    assert ["echo"] == agent.ran()


@pytest.mark.slow
def test_what_stands_behind_it_is_an_app_even_if_it_is_a_word_of_ours(agent):
    assert "hello\n" == agent("read", "read", "echo", "--text", "hello").stdout
    assert "hello\n" == agent("read", "list", "echo", "--text", "hello").stdout
    assert agent("read", "list").stdout.startswith("echo(text: string)")


def test_an_app_of_that_name_is_reached_as_such(agent):
    """So `tasak -- read` is no `tasak read`, and no prefix of one."""
    assert 0 == agent("--", "read", "counter").returncode
    assert ["counter"] == agent.ran()


def test_the_list_has_what_may_be_called(agent):
    assert "counter() - The tool counter\n" == agent("read", "fast").stdout
    assert ["counter"] == [tool["name"] for tool in json.loads(agent("read", "--json", "fast").stdout)["tools"]]


def test_a_refusal_is_a_document_like_any_other(agent):
    done = agent("read", "--json", *CALL)

    error = json.loads(done.stdout)["error"]
    assert (8, "denied", "not_executed") == (done.returncode, error["code"], error["outcome"])


def test_it_explains_itself(agent):
    done = agent("read", "--help")

    assert 0 == done.returncode
    assert "Usage: tasak read [OPTIONS] APP [TOOL …]" in done.stdout


# ── trust ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_project_is_trusted_until_it_changes(agent):
    text = agent.file.read_text()
    try:
        trusted = agent("trust", ".", cwd=agent.project)
        called = agent("read", *CALL, cwd=agent.project)
        listed = agent("trust")
        agent.file.write_text(f"{text}# more\n")
        changed = agent(*CALL, cwd=agent.project)
        looked = agent("trust")
    finally:
        agent.file.write_text(text)

    assert (0, f"trusted as it is now: {agent.file}\n") == (trusted.returncode, trusted.stdout)
    assert (0, "x\n") == (called.returncode, called.stdout)
    assert (f"{agent.file}\ttrusted\n", f"{agent.file}\tchanged\n") == (listed.stdout, looked.stdout)
    assert 8 == changed.returncode
    assert "has changed since you trusted it\n" in changed.stderr
    assert ["echo"] == agent.ran()


@pytest.mark.slow
def test_trust_is_revoked_at_once_for_a_warm_app_too(agent):
    agent("trust", str(agent.project))
    assert "x\n" == agent(*CALL, cwd=agent.project).stdout

    revoked = agent("trust", "--revoke", "project")

    assert f"no longer trusted: {agent.file}\n" == revoked.stdout
    assert 8 == agent(*CALL, cwd=agent.project).returncode
    assert ["echo"] == agent.ran()


@pytest.mark.slow
def test_a_program_can_read_what_is_trusted(agent):
    def said(*words: str) -> Any:
        return json.loads(agent("trust", "--json", *words).stdout)

    file = str(agent.file)
    assert {"files": []} == said()
    assert {"trusted": [file]} == said("project")
    assert {"files": [{"file": file, "state": "trusted"}]} == said()
    assert {"revoked": [file]} == said("--revoke", "project")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["."], "there is no tasak.yaml to trust at "),
        (["nowhere"], "there is no tasak.yaml to trust at "),
        (["--revoke"], "--revoke of what?"),
        (["--revoke", "project"], "project was not trusted"),
        (["project", "project"], "unexpected extra argument"),
    ],
)
def test_what_cannot_be_done_is_said(agent, words, message):
    done = agent("trust", *words)

    assert 2 == done.returncode
    assert message in done.stderr


@as_root
@pytest.mark.slow
def test_a_file_of_roots_that_others_can_write_is_passed_over():
    """One's own would be an error; a file that anybody may have planted breaks no call, and has no say."""
    with Home() as home:
        home.configure({"fast": FAST_APP | {"command": ["/usr/bin/env", *FAST_APP["command"]]}})
        project = home.home / "project"
        project.mkdir()
        planted = Shell.configure(home, {"fast": FAST_APP | {"command": "false"}}, project)
        planted.chmod(0o666)

        done = home("--no-daemon", "fast", "echo", "--text", "hi", cwd=project)
        refused = home("trust", ".", cwd=project)

    assert (0, "hi\n") == (done.returncode, done.stdout)
    assert f"tasak: {planted} is not read: other users can write to it (mode 666)\n" == done.stderr
    assert (2, f"tasak: {planted} is not read: other users can write to it (mode 666)") == (
        refused.returncode,
        refused.stderr.splitlines()[0],
    )


def test_a_list_of_apps_says_which_one_is_refused(agent):
    found = {app["name"]: app for app in agent.json(cwd=agent.project)["apps"]}

    assert "broken" == found["fast"]["state"]
    assert f"{agent.file} redefines the app 'fast'" in found["fast"]["error"]
    assert "broken" != found["theirs"]["state"]
    assert Path(found["theirs"]["file"]) == agent.file
