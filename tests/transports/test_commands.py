"""A program that is run to its end: what reaches it, what it says, and that it leaves nothing behind."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasak.errors import ConnectFailed
from tasak.transports.child import TERM_GRACE
from tasak.transports.commands import MAX_OUTPUT, STRAGGLERS_GRACE, Completed, Place, TooMuchOutput, run
from tests.core.pool import until
from tests.shell import is_alive

PATIENCE = 20.0
# What a busy machine may add to a time that is bounded.
SLACK = 1.0

PYTHON = [sys.executable, "-I", "-S", "-c"]
PROLOGUE = "import json, os, signal, subprocess, sys, time\n"
SLEEPER = [*PYTHON, "import time; time.sleep(1000)"]


def place(directory: Path | None = None, path: str = os.defpath, **environment: str) -> Place:
    folder = directory or Path("/")
    return Place(directory=folder, program_folder=folder, path=path, environment=environment)


async def of_python(script: str, *words: str, where: Place | None = None) -> Completed:
    async with asyncio.timeout(PATIENCE):
        return await run([*PYTHON, PROLOGUE + script, *words], where or place())


def text(completed: Completed) -> str:
    return completed.stdout.decode().removesuffix("\n")


class Told:
    """A named pipe through which a program tells the test that it is under way, and its pids."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "told"
        os.mkfifo(self.path)

    async def pids(self) -> list[int]:
        return json.loads(await asyncio.wait_for(asyncio.to_thread(self.path.read_text), PATIENCE))


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


@pytest.fixture(autouse=True)
def loop_complains(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio logs what goes wrong where nobody waits, a status that somebody has taken from it among that."""
    yield
    assert [] == [record.getMessage() for record in caplog.records if record.name == "asyncio"]


# What reaches it


async def test_its_words_arrive_as_they_are_and_no_shell_reads_them():
    words = ["a b", "$HOME", "*", "'", "", ";", "a\nb", "zażółć \U0001f600", "--", "\udcff"]

    done = await of_python("print(json.dumps([os.fsencode(word).hex() for word in sys.argv[1:]]))", *words)

    assert [os.fsencode(word).hex() for word in words] == json.loads(done.stdout)


async def test_it_has_nothing_but_the_given_environment_and_runs_in_the_given_directory(tmp_path):
    where = place(tmp_path, A="1", B="zażółć")

    done = await of_python("print(json.dumps([dict(os.environ), os.getcwd()]))", where=where)

    environment, directory = json.loads(done.stdout)
    assert ({"A": "1", "B": "zażółć"}, str(tmp_path.resolve())) == (
        {name: value for name, value in environment.items() if name != "LC_CTYPE"},  # Python's own
        directory,
    )


async def test_its_stdin_is_empty_and_no_other_descriptor_reaches_it():
    script = """
def is_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
print(json.dumps([sys.stdin.read(), [fd for fd in range(256) if is_open(fd)]]))
"""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        done = await of_python(script)
    finally:
        os.close(reading)
        os.close(writing)

    assert ["", [0, 1, 2]] == json.loads(done.stdout)


async def test_it_leads_a_process_group_and_a_session_of_its_own():
    done = await of_python("print(json.dumps([os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid()]))")

    assert [True, True] == json.loads(done.stdout)


# Which program it is


def program_in(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return path


async def test_a_name_is_looked_for_on_the_path_and_a_path_from_the_directory(tmp_path):
    on_path, here = program_in(tmp_path / "bin", "tool", "on path"), program_in(tmp_path / "work", "tool", "here")
    where = place(here.parent, path=f"/nowhere:{on_path.parent}")

    said = [text(await run([word], where)) for word in ("tool", "./tool", "../bin/tool", str(on_path))]

    assert ["on path", "here", "on path", "on path"] == said


async def test_a_folder_of_the_path_that_is_not_absolute_does_not_count(tmp_path, monkeypatch):
    program_in(tmp_path, "tool", "says")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConnectFailed, match="there is no program 'tool'"):
        await run(["tool"], place(tmp_path, path=f".::../{tmp_path.name}"))


@pytest.mark.parametrize("word", ["tool", "./tool", "", "/", "."])
async def test_a_program_that_is_not_there_is_named_with_what_to_do(tmp_path, word):
    with pytest.raises(ConnectFailed) as raised:
        await run([word], place(tmp_path, path="/nowhere"))

    assert f"there is no program {word!r}" == raised.value.message
    assert raised.value.fix is not None


async def test_what_is_no_program_is_refused_with_the_reason(tmp_path):
    path = program_in(tmp_path, "tool", "says")
    path.write_bytes(b"\x7fELF")

    with pytest.raises(ConnectFailed, match=r"tool cannot be started in .*: .*Exec format error"):
        await run(["./tool"], place(tmp_path))


async def test_a_directory_that_is_gone_is_named():
    with pytest.raises(ConnectFailed, match="cannot be started in /nowhere: "):
        await run(["sh"], place(Path("/nowhere")))


async def test_more_words_than_a_command_line_may_have_are_refused():
    with pytest.raises(ConnectFailed, match="Argument list too long"):
        await run(["true", "x" * (1 << 22)], place())


# What it says


async def test_what_it_wrote_and_its_status_are_known():
    done = await of_python("print('out'); print('err', file=sys.stderr); sys.exit(3)")

    assert Completed(status=3, stdout=b"out\n", stderr=b"err\n") == done


async def test_the_signal_that_ended_it_is_known():
    assert -9 == (await of_python("os.kill(os.getpid(), signal.SIGKILL)")).status


async def test_it_may_write_up_to_the_bound():
    done = await of_python(f"for fd in (1, 2): [os.write(fd, b'x' * {MAX_OUTPUT >> 8}) for _ in range(256)]")

    assert (0, MAX_OUTPUT, MAX_OUTPUT) == (done.status, len(done.stdout), len(done.stderr))


@pytest.mark.parametrize(("fd", "stream"), [(1, "stdout"), (2, "stderr")])
async def test_one_that_does_not_stop_writing_is_killed(told, fd, stream):
    script = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen({SLEEPER})
open({str(told.path)!r}, "w").write(json.dumps([os.getpid(), other.pid]))
while True:
    os.write({fd}, b"x" * 65536)
"""
    running = asyncio.create_task(of_python(script))
    pids = await told.pids()

    with pytest.raises(TooMuchOutput, match=f"it wrote more than 16 MiB on {stream}"):
        await running

    await until(lambda: not any(map(is_alive, pids)))


# What it leaves behind


@pytest.mark.parametrize("streams", ["None", "subprocess.DEVNULL"], ids=["its leader's streams", "streams of its own"])
async def test_one_that_is_left_in_the_background_is_killed(streams):
    script = f"print(subprocess.Popen({SLEEPER}, stdin={streams}, stdout={streams}, stderr={streams}).pid)"
    began = time.monotonic()

    other = int(text(await of_python(script)))

    await until(lambda: not is_alive(other))
    assert time.monotonic() - began < STRAGGLERS_GRACE + SLACK


async def test_one_in_the_background_may_say_the_rest():
    script = "(while kill -0 $$; do :; done; echo rest) 2>/dev/null & echo first"

    done = await run(["sh", "-c", script], place())

    assert b"first\nrest\n" == done.stdout


@pytest.mark.slow
async def test_one_that_has_left_the_group_and_keeps_the_streams_does_not_hold_us_up():
    script = f"print(subprocess.Popen({SLEEPER}, start_new_session=True).pid)"

    other = psutil.Process(int(text(await of_python(script))))

    other.kill()
    other.wait(PATIENCE)


async def test_one_that_has_left_the_group_is_killed_where_it_is_marked():
    script = f"print(subprocess.Popen({SLEEPER}, start_new_session=True, stdout=subprocess.DEVNULL).pid)"

    other = int(text(await of_python(script, where=place(TASAK_TREE="an-instance"))))

    assert not is_alive(other)


@pytest.fixture
def under_way(told: Told) -> str:
    """A script that tells its pid and that of a child in the background, and then waits."""
    return f"""
other = subprocess.Popen({SLEEPER})
open({str(told.path)!r}, "w").write(json.dumps([os.getpid(), other.pid]))
time.sleep(1000)
"""


async def test_when_it_is_cancelled_its_whole_group_is_gone(told, under_way):
    running = asyncio.create_task(of_python(under_way))
    pids = await told.pids()
    began = time.monotonic()

    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert not is_alive(pids[0])
    await until(lambda: not is_alive(pids[1]))
    assert time.monotonic() - began < TERM_GRACE


@pytest.mark.slow
async def test_one_that_will_not_go_is_killed_with_its_group(told, under_way):
    running = asyncio.create_task(of_python("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + under_way))
    pids = await told.pids()
    began = time.monotonic()

    running.cancel()
    await asyncio.wait([running])

    await until(lambda: not any(map(is_alive, pids)))
    assert TERM_GRACE <= time.monotonic() - began < TERM_GRACE + SLACK


async def test_one_that_is_told_to_go_may_tidy_up(told, under_way, tmp_path):
    save = f"signal.signal(signal.SIGTERM, lambda *_: (open({str(tmp_path / 'saved')!r}, 'w').close(), os._exit(0)))\n"
    running = asyncio.create_task(of_python(save + under_way))
    await told.pids()

    running.cancel()
    await asyncio.wait([running])

    assert (tmp_path / "saved").exists()


async def test_a_second_cancellation_kills_at_once(told, under_way):
    running = asyncio.create_task(of_python("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + under_way))
    pids = await told.pids()

    running.cancel()
    await asyncio.wait([running], timeout=0.05)
    running.cancel()
    began = time.monotonic()
    await asyncio.wait([running])

    await until(lambda: not any(map(is_alive, pids)))
    assert time.monotonic() - began < TERM_GRACE


async def test_runs_that_are_cancelled_anywhere_in_their_start_leave_nothing_behind():
    here = psutil.Process()
    await of_python("")
    tasks, descriptors = asyncio.all_tasks(), here.num_fds()

    for turns in range(12):
        running = asyncio.create_task(run([*SLEEPER], place()))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

    await until(lambda: [] == here.children())
    await until(lambda: (tasks, descriptors) == (asyncio.all_tasks(), here.num_fds()))


async def test_a_hundred_runs_leave_no_task_and_no_descriptor():
    here = psutil.Process()
    await of_python("")
    tasks, descriptors = asyncio.all_tasks(), here.num_fds()

    for _ in range(10):
        await asyncio.gather(*(run(["true"], place()) for _ in range(10)))

    await until(lambda: (tasks, descriptors) == (asyncio.all_tasks(), here.num_fds()))
    assert [] == here.children()
