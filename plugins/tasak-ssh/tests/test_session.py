"""A session with a server on another machine, from the login to its end."""

import asyncio
import json
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from hosting import PATIENCE, STDIO_SERVER, STUBBORN, connected, refusal, text_of
from sshd import Sshd
from tasak.plugin import McpSession, NotExecuted, SessionLost
from tasak.testing import no_leaks

import tasak_ssh

# What a busy machine may add to a time that is bounded.
SLACK = 3.0


def far(sshd: Sshd, **options: Any) -> dict[str, Any]:
    """The stdlib server on that machine; what it runs is witnessed there."""
    environment = {"EXEC": str(sshd.home / "executed"), **options.pop("env", {})}
    return {"host": "127.0.0.1", "port": sshd.port, "command": [*STDIO_SERVER], "env": environment, **options}


def executed(sshd: Sshd) -> list[str]:
    witness = sshd.home / "executed"
    return witness.read_text().split() if witness.exists() else []


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - files and processes set no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def sleeping(sshd: Sshd, session: McpSession) -> AsyncIterator["asyncio.Task[str]"]:
    """A call that the server has begun to carry out."""
    task = asyncio.create_task(text_of(session, "sleep", seconds=PATIENCE))
    try:
        await until(lambda: "sleep" in executed(sshd))
        yield task
    finally:
        task.cancel()


def process_of(sshd: Sshd) -> psutil.Process:
    """The leader of what runs there."""
    (running,) = sshd.running
    assert running.pid is not None
    return psutil.Process(running.pid)


# Calls


async def test_a_server_on_another_machine_lists_and_calls(sshd):
    async with connected(far(sshd)) as session:
        listed = await session.request("tools/list", {}, timeout=PATIENCE)

        assert "echo" in [tool["name"] for tool in listed["tools"]]
        assert "hello" == await text_of(session, "echo", text="hello")
        assert {"name": "stdio_server", "version": "1"} == session.server_info


async def test_fifty_calls_share_one_session(sshd):
    async with connected(far(sshd)) as session:
        answers = await asyncio.gather(*(text_of(session, "echo", text=str(number)) for number in range(50)))

    assert [str(number) for number in range(50)] == answers
    assert 1 == len(sshd.connections) == len(sshd.running)


async def test_a_result_of_64_mib_arrives_in_linear_time(sshd):
    async def timed(size: int) -> float:
        began = time.perf_counter()
        assert size == len(await text_of(session, "big", size=size))
        return time.perf_counter() - began

    async with connected(far(sshd)) as session:
        small = await timed(8 << 20)
        large = await timed(64 << 20)

    # 8 times as long, or 64 times where each packet copies the line; in between is a busy machine.
    assert large < 32 * small


async def test_an_argument_of_32_mib_arrives(sshd):
    async with connected(far(sshd)) as session:
        assert 32 << 20 == len(await text_of(session, "echo", text="x" * (32 << 20)))


async def test_a_line_that_is_too_long_ends_the_session(sshd):
    async with connected(far(sshd)) as session:
        with pytest.raises(SessionLost):
            await text_of(session, "big", size=(128 << 20) + 1)

        assert session.ended.is_set()


async def test_a_ping_goes_there_and_back(sshd):
    async with connected(far(sshd)) as session:
        await tasak_ssh.ping(session)


# What reaches the command


async def test_variables_arrive_whole_and_in_no_command_line(sshd):
    secrets = {
        "TOKEN": "s3cret",
        "ODD": 'it\'s "$HOME" `date` \\n\nand a second line\n',
        "NUMBER": 1.5,
        "ZIMA": "zażółć",
    }

    async with connected(far(sshd, env=secrets)) as session:
        environment = json.loads(await text_of(session, "environment"))

    assert {**secrets, "NUMBER": "1.5"} == {name: environment[name] for name in secrets}
    assert "s3cret" not in "".join(sshd.commands)


async def test_neither_variables_nor_the_command_are_in_the_log(sshd, caplog):
    caplog.set_level(logging.DEBUG)

    async with connected(far(sshd, command=[*STDIO_SERVER, "s3cret"], env={"TOKEN": "s3cret"})) as session:
        await text_of(session, "complain", text="ouch")
        await until(lambda: "stderr: ouch" in caplog.text)

    assert f"127.0.0.1 port {sshd.port} with ~/.ssh/id_ed25519" in caplog.text
    assert "s3cret" not in caplog.text


async def test_nothing_of_our_own_environment_arrives(sshd, monkeypatch):
    monkeypatch.setenv("LC_OURS", "1")
    sshd.accepted = {"LC_OURS", "TASAK_TREE"}

    async with connected(far(sshd)) as session:
        environment = json.loads(await text_of(session, "environment"))

    assert [] == [name for name in environment if name in ("LC_OURS", "TASAK_TREE")]


@pytest.mark.parametrize("command", [" ".join(STDIO_SERVER), f"cd / && exec {' '.join(STDIO_SERVER)}"])
async def test_a_string_is_the_login_shells(sshd, command):
    async with connected(far(sshd, command=command)) as session:
        assert "hello" == await text_of(session, "echo", text="hello")


async def test_a_list_is_words_that_no_shell_looks_into(sshd):
    script = sshd.home / "a $(touch gone) dir" / "it's a server.py"
    script.parent.mkdir()
    shutil.copy(STDIO_SERVER[-1], script)

    async with connected(far(sshd, command=[*STDIO_SERVER[:-1], str(script)])) as session:
        assert "hello" == await text_of(session, "echo", text="hello")

    assert not (sshd.home / "gone").exists()


@pytest.mark.parametrize("directory", ["work shop", "./work shop", "~/work shop", "{home}/work shop"])
async def test_it_runs_in_its_directory(sshd, directory):
    (sshd.home / "work shop").mkdir()

    async with connected(far(sshd, directory=directory.format(home=sshd.home))) as session:
        assert str(sshd.home / "work shop") == await text_of(session, "where")


@pytest.mark.parametrize("options", [{}, {"directory": "~"}])
async def test_it_runs_at_home_otherwise(sshd, options):
    async with connected(far(sshd, **options)) as session:
        assert str(sshd.home) == await text_of(session, "where")


async def test_a_command_line_without_variables_or_directory_is_sent_as_it_is(sshd):
    async with connected(host="127.0.0.1", port=sshd.port, command=" ".join(STDIO_SERVER)):
        assert [" ".join(STDIO_SERVER)] == sshd.commands


# Its last words


async def test_its_stderr_is_among_its_last_words(sshd):
    async with connected(far(sshd)) as session:
        await text_of(session, "complain", text="ouch\x1b[31m")
        await until(lambda: len(session.last_words()) == 1)

        assert ["ouch\\x1b[31m"] == session.last_words()


async def test_a_chatty_server_does_not_fill_the_memory(sshd):
    async with connected(far(sshd)) as session:
        await text_of(session, "complain", text="x" * 100_000 + "\n" * 1000 + "end")
        await until(lambda: session.last_words()[-1:] == ["end"])

        assert 200 == len(session.last_words())
        assert 4000 >= max(len(line) for line in session.last_words())


# Its death


async def test_a_server_that_is_killed_is_noticed_at_once(sshd):
    async with connected(far(sshd)) as session:
        process_of(sshd).kill()
        began = time.perf_counter()
        await session.ended.wait()

        assert 1.0 > time.perf_counter() - began
        with pytest.raises(NotExecuted, match=r"the command on 127\.0\.0\.1 was killed by SIGKILL"):
            await text_of(session, "echo", text="hello")


async def test_a_call_under_way_fails_with_the_exit_status_and_the_last_words(sshd):
    async with connected(far(sshd)) as session:
        with pytest.raises(SessionLost, match="exited with status 3"):
            await text_of(session, "die", status=3)

        assert ["dying as asked"] == session.last_words()


async def test_a_call_under_way_may_have_run_when_the_connection_is_cut(sshd):
    async with connected(far(sshd)) as session, sleeping(sshd, session) as call:
        sshd.cut()

        with pytest.raises(SessionLost, match=r"the SSH connection to 127\.0\.0\.1 was lost"):
            await call
        assert ["sleep"] == executed(sshd)


async def test_a_call_after_the_connection_was_cut_has_not_run(sshd):
    async with connected(far(sshd)) as session:
        sshd.cut()
        await session.ended.wait()

        with pytest.raises(NotExecuted, match=r"the SSH connection to 127\.0\.0\.1 was lost"):
            await text_of(session, "echo", text="hello")
        assert [] == executed(sshd)


async def test_a_machine_that_falls_silent_is_noticed_while_nobody_calls(sshd, home):
    (home / ".ssh" / "config").write_text("ServerAliveInterval 1\nServerAliveCountMax 1\n")

    async with connected(far(sshd)) as session:
        sshd.freeze()
        async with asyncio.timeout(2 + SLACK):
            await session.ended.wait()

        with pytest.raises(NotExecuted, match="not responding to keepalive"):
            await text_of(session, "echo", text="hello")


# Its end


async def test_closing_ends_the_server(sshd):
    async with connected(far(sshd)):
        process = process_of(sshd)

    await until(lambda: not process.is_running())
    assert [] == sshd.signals


async def test_one_that_ignores_the_end_of_its_stdin_gets_signals(sshd):
    async with connected(far(sshd, command=STUBBORN)):
        tree = [process_of(sshd), *process_of(sshd).children(recursive=True)]
        began = time.perf_counter()

    assert 5 + SLACK > time.perf_counter() - began
    assert ["TERM", "KILL"] == sshd.signals
    await until(lambda: not any(process.is_running() for process in tree))


async def test_closing_is_bounded_when_the_machine_is_silent(sshd):
    async with connected(far(sshd)):
        sshd.freeze()
        began = time.perf_counter()

    assert 5 + SLACK > time.perf_counter() - began


async def test_closing_after_the_connection_was_cut_is_quick(sshd):
    async with connected(far(sshd)):
        sshd.cut()
        began = time.perf_counter()

    assert 1.0 > time.perf_counter() - began


async def test_twenty_sessions_leave_nothing(sshd):
    async def live() -> None:
        async with connected(far(sshd)) as session:
            assert "hello" == await text_of(session, "echo", text="hello")

    await live()

    async with no_leaks():
        for _ in range(20):
            await live()


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.3])
async def test_a_connect_that_is_given_up_leaves_nothing(sshd, moment):
    async with no_leaks():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(moment):
                # It reads to the end and never answers.
                await refusal(far(sshd, command="cat >/dev/null"))


async def test_a_command_that_does_not_speak_mcp_says_why_and_leaves_nothing(sshd):
    async with no_leaks():
        problem = await refusal(far(sshd, command="echo no licence >&2; exit 1"))

    assert "the command on 127.0.0.1 exited with status 1" == problem.message
    assert ["no licence"] == problem.last_words
