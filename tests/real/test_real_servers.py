"""Calls of servers that others wrote: two in Node.js, straight from npm, and the demo, which the Python SDK serves."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.shell import Shell, until

EVERYTHING = "npx -y @modelcontextprotocol/server-everything@2026.8.31"
FILESYSTEM = "npx -y @modelcontextprotocol/server-filesystem@2026.8.31 ."

# Each of them says the same on both roads.
CALLS = {
    "text": ["everything", "echo", "--message", "zażółć"],
    "blocks": ["everything", "get-tiny-image"],
    "json": ["--json", "everything", "get-structured-content", "--location", "Chicago"],
    "no such choice": ["everything", "get-structured-content", "--location", "Atlantis"],
    "a file": ["files", "read_text_file", "--path", "here.txt"],
    "the server's refusal": ["files", "read_text_file", "--path", "/etc/passwd"],
    "python": ["demo", "add", "--a", "2", "--b", "3"],
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.node,
    pytest.mark.timeout(300),
    pytest.mark.keeps("the daemon and the servers from npm serve the whole module"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A user with two projects and the servers of both; npm downloads into a cache that goes with the tests."""
    with Shell() as shell:
        npm = {"env": {"npm_config_cache": str(tmp_path_factory.mktemp("npm"))}, "init_timeout": 240}
        shell.configure(
            {"everything": {"command": EVERYTHING} | npm, "files": {"command": FILESYSTEM, "cwd": "caller"} | npm}
        )
        for name in ("one", "two"):
            (shell.home / name).mkdir()
            (shell.home / name / "here.txt").write_text(f"this is {name}\n")
        shell.cwd = shell.home / "one"
        yield shell


@pytest.mark.parametrize("words", CALLS.values(), ids=list(CALLS))
def test_both_roads_print_the_same(world: Shell, words: list[str]) -> None:
    through_the_daemon = world(*words)

    direct = world("--no-daemon", *words)

    assert through_the_daemon.stdout == direct.stdout
    assert through_the_daemon.stderr == direct.stderr
    assert through_the_daemon.returncode == direct.returncode


def test_the_tools_are_listed_with_their_types(world: Shell) -> None:
    done = world("everything")

    assert "get-sum(a: number, b: number) - Returns the sum of two numbers" in done.stdout.splitlines()


def test_arguments_have_the_types_of_the_schema(world: Shell) -> None:
    total = world("everything", "get-sum", "--a", "2", "--b", "0.5")
    several = world("files", "read_multiple_files", "--paths", "here.txt", "--paths", "here.txt")

    assert "The sum of 2 and 0.5 is 2.5.\n" == total.stdout
    assert 2 == several.stdout.count("this is one")


def test_a_call_that_reports_progress_ends_well(world: Shell) -> None:
    done = world("--timeout", "5", "everything", "trigger-long-running-operation", "--duration", "0.2", "--steps", "2")

    assert (0, "") == (done.returncode, done.stderr)


def test_images_are_named_and_json_has_the_data(world: Shell) -> None:
    for_the_eye = world("everything", "get-tiny-image")
    as_json = world.json("everything", "get-tiny-image")

    assert "[image/png, 4033 bytes; --json has the data]" in for_the_eye.stdout.splitlines()
    assert "image" in [block["type"] for block in as_json["content"]]


def test_each_project_has_its_own_files(world: Shell) -> None:
    here = world("files", "read_text_file", "--path", "here.txt")
    there = world("files", "read_text_file", "--path", "here.txt", cwd=world.home / "two")

    assert ("this is one\n\n", "this is two\n\n") == (here.stdout, there.stdout)


def test_what_a_call_writes_is_there_for_the_next(world: Shell, tmp_path: Path) -> None:
    world("files", "write_file", "--path", "new.txt", "--content", "line\n" * 1000)

    read = world("files", "read_text_file", "--path", "new.txt", "--head", "2")

    assert "line\nline\n" == read.stdout


def test_a_process_of_the_server_serves_many_commands(world: Shell) -> None:
    world("everything", "echo", "--message", "first")
    before = pids_of(world, "everything")

    world("everything", "echo", "--message", "second")

    assert before == pids_of(world, "everything") != []


def test_a_killed_server_is_replaced_and_its_lost_state_is_said(world: Shell) -> None:
    world("everything", "echo", "--message", "before")
    for pid in pids_of(world, "everything"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not pids_of(world, "everything"))

    done = world("everything", "echo", "--message", "after")

    assert (0, "Echo: after\n") == (done.returncode, done.stdout)
    assert "tasak: everything: this is a fresh session; the state of the earlier one is gone\n" == done.stderr


def test_a_killed_daemon_is_replaced(world: Shell) -> None:
    world("everything", "echo", "--message", "before")
    killed = psutil.Process(world.daemon_pid)
    killed.kill()
    killed.wait(10)

    done = world("everything", "echo", "--message", "after")

    assert (0, "Echo: after\n") == (done.returncode, done.stdout)
    assert killed.pid != world.daemon_pid


def test_a_deep_ping_tells_who_answers(world: Shell) -> None:
    world("everything", "echo", "--message", "warm")

    (found,) = world.json("ping", "everything", "--deep")["connections"]

    assert found["ok"]
    assert "mcp-servers/everything" == found["server_info"]["name"]


def test_json_of_a_call_is_one_document(world: Shell) -> None:
    done = world("--json", "everything", "get-resource-reference", "--resourceType", "Blob", "--resourceId", "2")

    assert "resource" in [block["type"] for block in json.loads(done.stdout)["content"]]


def pids_of(world: Shell, app: str) -> list[int]:
    """The processes behind the app's one connection."""
    found = [each for each in world.json("connections")["connections"] if each["app"] == app]
    return [process["pid"] for each in found for process in each["processes"]]
