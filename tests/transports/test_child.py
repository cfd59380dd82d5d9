"""Owning a process: how it is started, why it ended, and that it is gone."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tasak.errors import ConnectFailed
from tasak.transports.child import EOF_GRACE, EXIT_STATUS_GRACE, KILL_GRACE, TERM_GRACE, Child
from tasak.transports.stderr import StderrLog
from tests.core.pool import until
from tests.shell import is_alive
from tests.transports.pipes import rest_of

PATIENCE = 20.0
# What a busy machine may add to a time that is bounded.
SLACK = 1.0

# `tell` sends a message to the test; the program ends when its stdin does, if nothing else is said.
PROLOGUE = """
import json, os, signal, subprocess, sys, time
def tell(**what):
    print(json.dumps({"jsonrpc": "2.0", "id": 0, "result": what}), flush=True)
"""
UNTIL_EOF = "\ntell(ready=True); sys.stdin.read()\n"

# What a program may leave in the background.
SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"]


def program(script: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", PROLOGUE + script]


async def spawn(*command: str, directory: Path | str = "/", log: Path | None = None, **environment: str) -> Child:
    return await Child.spawn(command, environment=environment, directory=directory, stderr=StderrLog(log))


@asynccontextmanager
async def running(*command: str, **how: Any) -> AsyncIterator[Child]:
    """The process of `command`, closed at the end if the test has not done that."""
    child = await spawn(*command, **how)
    try:
        async with asyncio.timeout(PATIENCE):
            yield child
    finally:
        await child.aclose()


async def told_by(child: Child) -> dict[str, Any]:
    item = await child.read.receive()
    assert not isinstance(item, Exception)
    return item.message.result


async def seconds_of(work: Any) -> float:
    began = time.monotonic()
    await asyncio.wait_for(work, PATIENCE)
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def loop_complains(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio logs what goes wrong where nobody waits, a status that somebody has taken from it among that."""
    yield
    assert [] == [record.getMessage() for record in caplog.records if record.name == "asyncio"]


# Starting


async def test_it_has_a_session_and_a_process_group_of_its_own():
    async with running(*program(UNTIL_EOF)) as child:
        assert [child.pid, child.pid] == [os.getsid(child.pid), os.getpgid(child.pid)]


async def test_nothing_but_the_first_three_descriptors_reaches_it():
    script = """
def is_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
tell(open=[fd for fd in range(256) if is_open(fd)])
"""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        async with running(*program(script + UNTIL_EOF)) as child:
            assert {"open": [0, 1, 2]} == await told_by(child)
    finally:
        os.close(reading)
        os.close(writing)


async def test_its_environment_is_the_given_one_and_no_more():
    async with running(*program(UNTIL_EOF), A="1", B="zażółć") as child:
        assert {"ready": True} == await told_by(child)  # in the middle of its start it has none for a moment
        assert {"A": "1", "B": "zażółć"} == psutil.Process(child.pid).environ()


async def test_it_runs_in_the_given_directory(tmp_path):
    async with running(*program("tell(cwd=os.getcwd())" + UNTIL_EOF), directory=tmp_path) as child:
        assert {"cwd": str(tmp_path.resolve())} == await told_by(child)


async def test_its_words_arrive_as_they_are_and_no_shell_reads_them():
    words = ["a b", "$HOME", "*", "'", "", ";", "\udcff"]
    script = "tell(words=[os.fsencode(word).hex() for word in sys.argv[1:]])"

    async with running(*program(script + UNTIL_EOF), *words) as child:
        assert {"words": [os.fsencode(word).hex() for word in words]} == await told_by(child)


async def test_signals_that_python_ignores_are_not_ignored_in_it():
    async with running("/bin/cat", "/proc/self/status") as child:
        lines = []
        while line := await child.program.protocol.lines.readline():
            lines.append(line.decode())

    (ignored,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")]
    assert [] == [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if ignored & 1 << number - 1]


async def test_it_is_marked_as_one_of_its_instance_and_each_in_its_own_way():
    words = program(UNTIL_EOF)
    async with running(*words, TASAK_TREE="an-instance") as one, running(*words, TASAK_TREE="an-instance") as other:
        assert {"ready": True} == await told_by(one) == await told_by(other)
        marks = [psutil.Process(child.pid).environ()["TASAK_TREE"] for child in (one, other)]

    assert ["an-instance", "an-instance"] == [mark.partition(".")[0] for mark in marks]
    assert marks[0] != marks[1]


async def test_a_program_that_floods_stderr_is_not_kept_waiting(tmp_path):
    script = "[os.write(2, b'x' * 99 + b'\\n') for _ in range(10_000)]"

    async with running(*program(script + UNTIL_EOF), log=tmp_path / "app.log") as child:
        assert {"ready": True} == await told_by(child)
        # What is in the pipe is read a moment later, and with a gap: it is more than is kept at once.
        async with asyncio.timeout(PATIENCE):
            while not is_flood(child.last_words()):  # noqa: ASYNC110 - nothing tells when it was read
                await asyncio.sleep(0.01)


def is_flood(lines: Sequence[str]) -> bool:
    said = [line for line in lines if "bytes were left out here" not in line]
    return len(lines) == 200 and {"x"} == set("".join(said)) and said[-1] == "x" * 99


@pytest.fixture
def not_a_program(tmp_path: Path) -> Path:
    path = tmp_path / "not-a-program"
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("command", "directory", "reason"),
    [
        ("/nowhere/program", "/", "No such file or directory: '/nowhere/program'"),
        (sys.executable, "/nowhere", "No such file or directory: '/nowhere'"),
        ("/", "/", "Permission denied: '/'"),
        (None, "/", "Exec format error"),
        ("a\0b", "/", "embedded null byte"),
    ],
    ids=["no program", "no directory", "a folder", "no format", "a NUL"],
)
async def test_what_cannot_be_started_is_named(not_a_program, command, directory, reason):
    command = command or str(not_a_program)

    with pytest.raises(ConnectFailed) as raised:
        await spawn(command, directory=directory)

    assert raised.value.message.startswith(f"{command} cannot be started in {directory}: ")
    assert reason in raised.value.message


# Why it ended


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sys.exit(3)", "exited with status 3"),
        ("", "exited with status 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "was killed by SIGTERM"),
        ("os.close(1); sys.stdin.read(); os._exit(0)", "closed its stdout"),
    ],
)
async def test_why_it_ended_is_known(script, reason):
    async with running(*program(script)) as child:
        assert [] == [item async for item in child.read]

        assert f"{Path(sys.executable).name} {reason}" == await child.why_ended()


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals here")
async def test_a_signal_without_a_name_is_given_by_its_number():
    number = signal.SIGRTMIN + 3

    async with running(*program(f"os.kill(os.getpid(), {number})")) as child:
        assert (await child.why_ended()).endswith(f" was killed by signal {number}")


async def test_what_it_said_last_is_there_when_the_reason_is():
    script = "[print('line', n, file=sys.stderr) for n in range(100)]; sys.stderr.write('ouch'); sys.exit(3)"

    async with running(*program(script)) as child:
        await child.why_ended()

        assert [*(f"line {number}" for number in range(100)), "ouch"] == child.last_words()


async def test_what_it_said_last_is_there_for_whoever_reads_it_later():
    line = "x" * 999
    async with running(*program(f"print('\\n'.join(['{line}'] * 180))")) as child:
        await child._process.wait()

        assert [f"{line}\n".encode()] * 180 == await rest_of(child.program.protocol.lines)


@pytest.mark.parametrize("end", ["", "exec >&-; sleep 0.2", "sleep 0.01"], ids=["at once", "after its stdout", "soon"])
async def test_one_that_speaks_first_and_ends_is_heard(end):
    script = rf"printf 'one\n\n'; echo two >&2; printf 'three\r\nfour'; {end}"
    for _ in range(10):
        async with running("/bin/sh", "-c", script) as child:
            assert [b"one\n", b"\n", b"three\r\n", b"four"] == await rest_of(child.program.protocol.lines)
            assert "sh exited with status 0" == await child.why_ended()


async def test_the_reason_is_known_soon_even_when_someone_else_keeps_the_streams_open():
    script = f"subprocess.Popen({SLEEPER}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL); sys.exit(3)"

    async with running(*program(script)) as child:
        assert [] == [item async for item in child.read]
        began = time.monotonic()

        assert (await child.why_ended()).endswith(" exited with status 3")
        assert time.monotonic() - began < EXIT_STATUS_GRACE + SLACK


async def test_its_end_is_the_end_even_when_someone_else_keeps_its_stdout_open():
    """What it said before is read; and a call that it was asked for does not wait for what never comes."""
    async with running(*program(f"subprocess.Popen({SLEEPER}); tell(last=1); sys.exit(3)")) as child:
        assert {"last": 1} == await told_by(child)
        assert [] == [item async for item in child.read]

        assert (await child.why_ended()).endswith(" exited with status 3")


@pytest.mark.slow  # 128 MiB through a pipe
async def test_a_line_above_the_bound_is_the_reason():
    script = "sys.stdout.buffer.write(b'x' * (129 << 20)); sys.stdout.flush()"

    async with running(*program(script)) as child:
        assert [] == [item async for item in child.read]

        assert (await child.why_ended()).endswith(" sent a line of more than 128 MiB")


# Closing


async def test_one_that_ends_with_its_stdin_is_left_to_it_and_soon_gone(tmp_path):
    script = "signal.signal(signal.SIGTERM, lambda *_: tell(terminated=True))" + UNTIL_EOF
    script += "open('saved', 'w').close(); sys.stderr.write('saved\\n')"
    child = await spawn(*program(script), directory=tmp_path, log=tmp_path / "app.log")
    await told_by(child)

    took = await seconds_of(child.aclose())

    assert not is_alive(child.pid)
    assert (tmp_path / "saved").exists()
    assert ["saved"] == child.last_words()
    assert "saved\n" == (tmp_path / "app.log").read_text()
    assert took < EOF_GRACE


@pytest.mark.slow
async def test_one_that_stays_is_told_to_go(tmp_path):
    script = """
def save(*_):
    open("saved", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, save)
tell(ready=True)
while True:
    time.sleep(1000)
"""
    child = await spawn(*program(script), directory=tmp_path)
    await told_by(child)

    took = await seconds_of(child.aclose())

    assert not is_alive(child.pid)
    assert (tmp_path / "saved").exists()
    assert EOF_GRACE <= took < EOF_GRACE + TERM_GRACE


@pytest.mark.slow
async def test_one_that_will_not_go_is_killed_with_its_group():
    script = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
tell(other=subprocess.Popen({SLEEPER}).pid)
while True:
    time.sleep(1000)
"""
    child = await spawn(*program(script))
    other = (await told_by(child))["other"]

    took = await seconds_of(child.aclose())

    assert not is_alive(child.pid)
    await until(lambda: not is_alive(other))
    assert EOF_GRACE + TERM_GRACE <= took < EOF_GRACE + TERM_GRACE + KILL_GRACE


@pytest.mark.parametrize("streams", ["subprocess.DEVNULL", "None"], ids=["streams of its own", "its leader's streams"])
async def test_one_that_a_polite_leader_leaves_behind_is_killed(streams):
    script = f"tell(other=subprocess.Popen({SLEEPER}, stdin={streams}, stdout={streams}, stderr={streams}).pid)"
    child = await spawn(*program(script + UNTIL_EOF))
    other = (await told_by(child))["other"]
    assert is_alive(other)

    took = await seconds_of(child.aclose())

    assert not is_alive(child.pid)
    await until(lambda: not is_alive(other))
    assert took < EOF_GRACE + TERM_GRACE


# As far from the program as a process can get.
FAR_AWAY = f"""
def far_away(**how):
    return subprocess.Popen({SLEEPER}, **dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.DEVNULL), **how).pid
"""


@pytest.mark.parametrize("how", ["start_new_session=True", "start_new_session=True, env={}"])
async def test_one_that_has_left_the_group_is_killed(how):
    child = await spawn(*program(f"{FAR_AWAY}\ntell(other=far_away({how}))" + UNTIL_EOF), TASAK_TREE="an-instance")
    other = (await told_by(child))["other"]

    took = await seconds_of(child.aclose())

    assert [False, False] == [is_alive(child.pid), is_alive(other)]
    assert took < EOF_GRACE


async def test_a_session_that_stops_writing_leaves_the_end_to_the_child():
    """It has to see first who is there: one without an environment is known by its parent alone."""
    script = f"{FAR_AWAY}\ntell(other=far_away(start_new_session=True, env={{}}))" + UNTIL_EOF
    child = await spawn(*program(script), TASAK_TREE="an-instance")
    other = (await told_by(child))["other"]

    await child.write.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await child.write.send(None)
    await asyncio.wait_for(child.aclose(), PATIENCE)

    assert [False, False] == [is_alive(child.pid), is_alive(other)]


async def test_of_one_that_is_not_marked_whoever_has_left_the_group_stays():
    child = await spawn(*program(f"{FAR_AWAY}\ntell(other=far_away(start_new_session=True))" + UNTIL_EOF))
    other = psutil.Process((await told_by(child))["other"])

    await asyncio.wait_for(child.aclose(), PATIENCE)

    assert is_alive(other.pid)
    other.kill()
    other.wait(PATIENCE)


async def test_one_that_died_before_is_closed_at_once():
    child = await spawn(*program(f"tell(other=subprocess.Popen({SLEEPER}, stdout=subprocess.DEVNULL).pid)"))
    other = (await told_by(child))["other"]
    await child.why_ended()

    await asyncio.wait_for(child.aclose(), PATIENCE)

    await until(lambda: not is_alive(other))


async def test_a_closing_that_is_cancelled_kills_at_once():
    child = await spawn(*program("signal.signal(signal.SIGTERM, signal.SIG_IGN); tell(); time.sleep(1000)"))
    await told_by(child)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.aclose()

    await until(lambda: not is_alive(child.pid))


@pytest.mark.slow
async def test_two_hundred_that_leave_someone_behind_leave_nothing():
    script = "sleep 1000 & setsid sleep 1000 & read line"
    here = psutil.Process()
    await (await spawn("/bin/sh", "-c", script, TASAK_TREE="an-instance")).aclose()
    others = here.children(recursive=True)
    tasks, descriptors, threads = asyncio.all_tasks(), here.num_fds(), here.num_threads()

    for _ in range(20):
        children = await asyncio.gather(*(spawn("/bin/sh", "-c", script, TASAK_TREE="an-instance") for _ in range(10)))
        await asyncio.gather(*(child.aclose() for child in children))

    assert others == here.children(recursive=True)
    await until(lambda: (tasks, descriptors) == (asyncio.all_tasks(), here.num_fds()))
    assert here.num_threads() <= threads + (os.cpu_count() or 1) + 4, "more than the loop's executor has"


async def test_a_start_that_is_cancelled_leaves_nothing_behind():
    words = ["/bin/sh", "-c", "sleep 1000 & setsid sleep 1000 & read line"]
    here = psutil.Process()
    await (await spawn(*program(UNTIL_EOF))).aclose()
    others = here.children(recursive=True)
    tasks, descriptors = asyncio.all_tasks(), here.num_fds()

    for turns in range(20):
        starting = asyncio.create_task(spawn(*words, TASAK_TREE="an-instance"))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            await starting.result().aclose()

    await until(lambda: others == here.children(recursive=True))
    assert (tasks, descriptors) == (asyncio.all_tasks(), here.num_fds())
