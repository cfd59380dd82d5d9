"""All that came of one program: who is found, who is ended, and whose end is left to others."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasak.transports import birth, orphans, tree
from tasak.transports.birth import Program
from tasak.transports.census import Census, Process, ProcFiles, Psutil, bury, of_this_machine, send
from tasak.transports.mark import VARIABLE, Instance, is_of, marked
from tasak.transports.tree import Tree
from tests.core.pool import until
from tests.family import KINDS, Family, relative

PATIENCE = 20.0

PYTHON = [sys.executable, "-I", "-S", "-c"]

MACHINE = of_this_machine()

# Each one that can be had here; that of other systems works here too.
CENSUSES: dict[str, Census] = {"psutil": Psutil()}
if sys.platform == "linux":
    CENSUSES |= {"proc": ProcFiles(), "proc without lists": ProcFiles(has_lists=False)}

by_any_census = pytest.mark.parametrize("census", CENSUSES.values(), ids=CENSUSES.keys())


@pytest.fixture
def instance() -> str:
    return str(Instance.of_this_process())


class Listener(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        self.exited.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.close()


@asynccontextmanager
async def running(*words: str, **environment: str) -> AsyncIterator[Program[Listener]]:
    """A program of ours; ended, and asyncio told of it, when it is left."""
    program = await birth.start(Listener, words, environment=environment, directory="/", stdin=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE):
            yield program
    finally:
        await program.end()
        program.close()


@contextmanager
def busy_thread() -> Iterator[None]:
    """One that leaves the loop late for all that it hears of."""
    is_over = threading.Event()

    def compute() -> None:
        while not is_over.is_set():
            pass

    with ThreadPoolExecutor(1) as pool:
        pool.submit(compute)
        try:
            yield
        finally:
            is_over.set()


async def born_and_cancelled(turns: int) -> list[Listener]:
    """The listeners of a start that was cancelled after so many turns of the loop: one, or none yet."""
    listeners: list[Listener] = []

    def listener() -> Listener:
        listeners.append(Listener())
        return listeners[-1]

    words = ["/bin/sh", "-c", "read line"]
    starting = asyncio.create_task(
        birth.start(listener, words, environment={}, directory="/", stdin=asyncio.subprocess.PIPE)
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    if not starting.cancelled():
        await starting.result().end()
        starting.result().close()
    return listeners


async def grown_up(family: Family, *kinds: str) -> None:
    await until(lambda: len(family.relatives()) == len(kinds))


# Who is there


@by_any_census
def test_a_process_is_itself_and_has_a_parent_a_group_and_a_session(census):
    ours, other = census.look(os.getpid()), census.look(os.getppid())

    assert (os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), False) == (
        ours.pid,
        ours.parent,
        ours.group,
        ours.session,
        ours.is_dead,
    )
    assert census.look(os.getpid()) == ours != other


@by_any_census
def test_nobody_has_a_pid_that_is_not_given_away(census):
    gone = subprocess.Popen(["true"])
    gone.wait(PATIENCE)

    assert None is census.look(gone.pid)
    assert [] == census.children(gone.pid)
    assert None is census.variable(gone.pid, "PATH")


@pytest.fixture
def ended() -> Iterator["subprocess.Popen[bytes]"]:
    """A child of ours that has ended, of which nobody has taken note."""
    process = subprocess.Popen(["sh", "-c", "exit 3"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process
    process.wait(PATIENCE)


@by_any_census
def test_children_are_those_of_one_parent_the_dead_among_them(census, ended):
    with subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo; wait"], stdout=subprocess.PIPE, start_new_session=True
    ) as sh:
        assert b"\n" == sh.stdout.readline()

        found = {process.pid: process.is_dead for process in census.children(os.getpid())}
        (sleep,) = census.children(sh.pid)

        assert (True, False) == (found[ended.pid], found[sh.pid])
        assert sleep.pid not in found
        assert (sh.pid, sh.pid, sh.pid) == (sleep.parent, sleep.group, sleep.session)
        os.kill(sleep.pid, signal.SIGKILL)


@by_any_census
def test_everyone_is_there_but_whoever_is_another_users(census):
    found = [process.pid for process in census.everyone()]

    assert os.getpid() in found
    assert {os.geteuid()} == {uid for pid in found if (uid := uid_of(pid)) is not None}


def uid_of(pid: int) -> int | None:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).uids().effective
    return None


@by_any_census
def test_a_variable_is_what_it_was_at_the_start(census, ended):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"A": "zażółć", "AB": "2"}) as cat:
        assert ("zażółć", "2", None) == tuple(census.variable(cat.pid, name) for name in ("A", "AB", "B"))

    assert None is census.variable(ended.pid, "PATH")


@by_any_census
def test_a_signal_reaches_nobody_but_the_one_it_is_meant_for(census):
    with subprocess.Popen(["sleep", "1000"]) as sleep:
        found = census.look(sleep.pid)
        earlier = Process(found.pid, found.born - 1, found.parent, found.group, found.session, is_dead=False)

        send(earlier, signal.SIGKILL, census)
        send(found, signal.SIGTERM, census)

        assert -signal.SIGTERM == sleep.wait(PATIENCE)
    send(found, signal.SIGKILL, census)


def test_only_the_dead_are_buried(ended):
    with subprocess.Popen(["sleep", "1000"]) as sleep:
        bury(MACHINE.look(sleep.pid))
        bury(MACHINE.look(ended.pid))

        assert None is MACHINE.look(ended.pid)
        sleep.kill()
        assert -signal.SIGKILL == sleep.wait(PATIENCE)


# The mark


def test_a_mark_tells_who_made_it():
    us = Instance.of_this_process()
    mark = marked({VARIABLE: str(us), "A": "1"})[VARIABLE]

    assert us == Instance.of_mark(mark) == Instance.of_mark(str(us))
    assert (os.getpid(), MACHINE.look(os.getpid()).born) == (us.pid, us.born)
    assert us != Instance.of_this_process()


def test_each_program_has_a_mark_of_its_own():
    environment = {VARIABLE: "an-instance", "A": "1"}

    first, second = marked(environment), marked(environment)

    assert first[VARIABLE] != second[VARIABLE]
    assert [True, True, True] == [is_of("an-instance", each[VARIABLE]) for each in (first, second, environment)]
    assert [False, False] == [is_of("an-inst", first[VARIABLE]), is_of("an-instance", None)]
    assert {"A": "1"} == marked({"A": "1"})


@pytest.mark.parametrize(
    "mark", ["", "tree-1", "1-2-3", "1-2-3-x", "1-2-3-ab.", "1-2-3-ab.c.d", "-1-2-3-ab", "1-2-3-ab\n"]
)
def test_what_is_no_mark_of_ours_has_no_maker(mark):
    assert None is Instance.of_mark(mark)


@by_any_census
def test_a_maker_is_dead_when_its_pid_is_another_processes_or_nobodys(census, ended):
    own, dead, us = census.look(os.getpid()), census.look(ended.pid), Instance.of_this_process()

    def is_dead(pid: int, born: int, space: int = us.space) -> bool:
        return Instance(pid, born, space, "ab").is_dead(census)

    assert not is_dead(own.pid, own.born)
    assert is_dead(own.pid, own.born - 1)
    assert is_dead(dead.pid, dead.born)
    assert is_dead(2**22 + 1, own.born)
    assert not is_dead(own.pid, own.born - 1, us.space + 1), "of what happens in another container we know nothing"


# The tree


@by_any_census
async def test_all_that_came_of_a_program_are_ended_with_it(census, family, instance):
    async with running(*family.command(*KINDS), TASAK_TREE=instance) as program:
        await grown_up(family, *KINDS)

        await Tree(program.transport.get_pid(), mark_of(program), census).end()

        assert [] == family.living()
        await program.protocol.exited.wait()
        assert -signal.SIGKILL == program.transport.get_returncode()


def mark_of(program: Program[Any]) -> str | None:
    return MACHINE.variable(program.transport.get_pid(), VARIABLE)


async def test_they_are_buried_and_the_program_itself_is_left_to_asyncio(family, instance, caplog):
    before = psutil.Process().children()

    async with running(*family.command(*KINDS), TASAK_TREE=instance) as program:
        await grown_up(family, *KINDS)

    await until(lambda: psutil.Process().children() == before)
    assert -signal.SIGKILL == program.transport.get_returncode()
    assert [] == caplog.records


async def test_one_without_environment_and_parent_is_ended_if_it_was_noted_in_time(family, instance):
    async with running(*family.command("bare"), TASAK_TREE=instance) as program:
        await grown_up(family, "bare")

        await program.tree.note()
        program.transport.kill()
        await program.protocol.exited.wait()
        await program.tree.end()

        assert [] == family.living()


async def test_of_a_program_without_a_mark_only_the_group_is_ended(family):
    async with running(*family.command("grandnull", "grandsid")) as program:
        await grown_up(family, "grandnull", "grandsid")

        await program.tree.end()

        (stayed,) = map(psutil.Process, family.living())
        assert stayed.pid == os.getsid(stayed.pid)
        stayed.kill()
        stayed.wait(PATIENCE)


async def test_what_came_of_another_program_stays(family, instance):
    neighbours = Family(f"{family.surname}-too")
    async with (
        running(*family.command(*KINDS), TASAK_TREE=instance) as program,
        running(*neighbours.command(*KINDS), TASAK_TREE=instance),
    ):
        await grown_up(family, *KINDS)
        await grown_up(neighbours, *KINDS)

        await program.tree.end()

        assert ([], 1 + len(KINDS)) == (family.living(), len(neighbours.living()))


# In a session of its own each time, it is another process every 10 ms.
RESTLESS = """
import os, time
while True:
    time.sleep(0.01)
    if os.fork():
        os._exit(0)
    os.setsid()
"""


async def test_one_that_does_not_stay_the_same_is_ended(family, instance):
    command = [*PYTHON, RESTLESS, family.surname]
    async with running(*command, TASAK_TREE=instance) as program:
        await program.protocol.exited.wait()

        await program.tree.end()

        assert [] == family.living()
    # Who had died before it was ever seen is nobody's but the undertaker's.
    orphans.bury_orphans(MACHINE, orphans.bury_orphans(MACHINE, ()))


async def test_who_is_alive_of_an_instance_is_known(family, instance):
    other = str(Instance.of_this_process())
    async with (
        running(*family.command("daemonised"), TASAK_TREE=instance),
        running("sleep", "1000", TASAK_TREE=other) as alone,
        running("sleep", "1000"),
    ):
        await grown_up(family, "daemonised")

        assert family.living() == list(tree.survivors(instance))
        assert [alone.transport.get_pid()] == list(tree.survivors(other))

    assert [] == list(tree.survivors(instance))


# Starting


async def test_what_is_started_by_a_program_has_its_mark(family, instance):
    async with running(*family.command("grandsid", "daemonised"), TASAK_TREE=instance) as program:
        await grown_up(family, "grandsid", "daemonised")

        (mark,) = {MACHINE.variable(pid, VARIABLE) for pid in family.living()}

        assert mark == mark_of(program)
        assert mark.startswith(f"{instance}.")


@pytest.mark.slow
async def test_a_start_that_is_cancelled_leaves_no_transport_open():
    with busy_thread():
        ends = [each.transport.is_closing() for turns in range(30) for each in await born_and_cancelled(turns)]

    assert ends
    assert all(ends)


# A script whose interpreter is a script: the kernel takes it, but it is not known beforehand that it does.
@pytest.fixture
def strange_program(tmp_path: Path) -> str:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("#!/bin/sh\nexec sleep 1000\n")
    outer.write_text(f"#!{inner}\n")
    for path in (inner, outer):
        path.chmod(0o755)
    return str(outer)


STARTER = """
import asyncio, sys
from tasak.transports import birth
async def main():
    program = await birth.start(
        asyncio.SubprocessProtocol, sys.argv[1:], environment={}, directory="/", stdin=asyncio.subprocess.DEVNULL
    )
    print(program.transport.get_pid(), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills for us")
@pytest.mark.parametrize("is_strange", [False, True])
def test_a_program_is_killed_with_the_process_that_started_it(strange_program, is_strange):
    words = [strange_program] if is_strange else [shutil.which("sleep"), "1000"]
    with subprocess.Popen([sys.executable, "-c", STARTER, *words], stdout=subprocess.PIPE) as starter:
        pid = int(starter.stdout.readline())
        # Before that it may not have asked yet.
        wait_until(lambda: psutil.Process(pid).name() == "sleep")
        starter.kill()

    wait_until(lambda: not is_alive(pid))
    _, before_exec = birth.dying_with_us(words)
    assert (before_exec is None) == (not is_strange and birth.asking_program() is not None)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    process = MACHINE.look(pid)
    if process and process.is_dead:  # it has come to us
        bury(process)
    return process is not None and not process.is_dead


LATE = """
import os
from tasak.transports import prctl
ask = prctl.death_with_us()
if os.fork():
    os.wait()
elif child := os.fork():
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    ask()
    print("it goes on")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills for us")
def test_a_child_that_has_lost_its_parent_before_it_can_ask_does_not_go_on():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, timeout=PATIENCE, check=True)

    assert (b"-9\n", b"") == (done.stdout, done.stderr)


# What a dead instance has left


@pytest.fixture
def dead() -> Instance:
    with subprocess.Popen(["true"]) as process:
        maker = MACHINE.look(process.pid)
    return Instance(maker.pid, maker.born, Instance.of_this_process().space, secrets.token_hex(4))


def left_by(maker: Instance, *words: str, **how: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(words, env={VARIABLE: f"{maker}.ab"}, start_new_session=True, **how)


WAITING = "import os, signal, time; signal.signal(signal.SIGTERM, {does}); print(flush=True); time.sleep(1000)"


@pytest.mark.slow
def test_what_a_dead_instance_has_left_is_told_to_go_then_killed(dead, tmp_path):
    save = f"lambda *_: (open({str(tmp_path / 'saved')!r}, 'w').close(), os._exit(0))"
    polite, stubborn = ([*PYTHON, WAITING.format(does=does)] for does in (save, "signal.SIG_IGN"))
    with (
        left_by(dead, *polite, stdout=subprocess.PIPE) as willing,
        left_by(dead, *stubborn, stdout=subprocess.PIPE) as unwilling,
    ):
        for process in (willing, unwilling):
            process.stdout.readline()

        orphans.sweep()

        assert (0, -signal.SIGKILL) == (willing.wait(PATIENCE), unwilling.wait(PATIENCE))
    assert (tmp_path / "saved").exists()


def test_what_a_living_instance_has_started_stays(family, instance):
    us = Instance.of_mark(instance)
    with left_by(us, *relative(family.surname)) as ours, subprocess.Popen(relative(family.surname)) as nobodys:
        orphans.sweep()

        assert (None, None) == (ours.poll(), nobodys.poll())
        for process in (ours, nobodys):
            process.kill()


class Village:
    """A census of processes that nobody else can see, or end, meanwhile. All have the same mark."""

    def __init__(self, mark: str, parents: Mapping[int, int]) -> None:
        self._mark = mark
        self._processes = {pid: Process(pid, 1, parent, 1, 1, is_dead=False) for pid, parent in parents.items()}

    def look(self, pid: int) -> Process | None:
        return self._processes.get(pid)

    def children(self, pid: int) -> list[Process]:
        return [process for process in self.everyone() if process.parent == pid]

    def everyone(self) -> Iterator[Process]:
        return iter(self._processes.values())

    def variable(self, pid: int, name: str) -> str | None:
        return self._mark


def test_whoever_sweeps_does_not_end_itself_nor_who_has_started_it(dead):
    us, starter, ancestor, sibling, child = os.getpid(), -1, -2, -3, -4
    village = Village(f"{dead}.ab", {us: starter, starter: ancestor, ancestor: 0, sibling: starter, child: us})

    found = orphans.left_behind(village)

    assert {sibling, child} == {process.pid for process in found}


# Above any pid that there is.
NOBODY = 1 << 30


class Relay(Village):
    """Each look at who is there finds the one of the look before dead, and misses its heir; the last one stays."""

    def __init__(self, mark: str, runners: int) -> None:
        super().__init__(mark, {})
        self.last = -runners
        self.asked: list[int] = []

    def look(self, pid: int) -> Process | None:
        self.asked.append(pid)
        return super().look(pid) if self.asked.count(self.last) < 2 else None

    def everyone(self) -> Iterator[Process]:
        place = -1 - len(self._processes)
        if place >= self.last:
            self._processes[place] = Process(place, 1, os.getpid(), 1, place, is_dead=place != self.last)
        return super().everyone()


@pytest.mark.parametrize("runners", [5, 5 * tree.MOST_LOOKS])
async def test_one_that_is_another_at_each_look_is_found_even_so(instance, runners):
    relay = Relay(f"{instance}.ab", runners)

    await Tree(NOBODY, f"{instance}.ab", relay).end()

    assert relay.last in relay.asked


# Who has died in our care


# It leaves one in the session of the program that has ended already, and one in a session of its own.
LEAVING = """
import os, time
for leads in (False, True):
    if not os.fork():
        if os.fork():
            os._exit(0)
        if leads:
            os.setsid()
        time.sleep(0.1)
        os._exit(0)
    os.wait()
time.sleep(1000)
"""


async def test_orphans_that_have_died_are_buried_and_no_child_of_anybody(instance, ended):
    async with running(*PYTHON, LEAVING, TASAK_TREE=instance) as program:
        await until(lambda: 2 == len(dead_orphans(program)))
        sessions = [process.session for process in dead_orphans(program)]

        once = orphans.bury_orphans(MACHINE, ())
        left = dead_orphans(program)
        orphans.bury_orphans(MACHINE, once)

        assert program.transport.get_pid() in sessions
        assert [True] == [process.session == process.pid for process in left]
        assert [] == dead_orphans(program)
        assert 3 == ended.wait(PATIENCE)


def dead_orphans(program: Program[Any]) -> list[Process]:
    ours = os.getsid(0)
    return [each for each in MACHINE.children(os.getpid()) if each.is_dead and each.session != ours]


async def test_the_undertaker_sweeps_and_then_buries(instance, dead):
    swept = left_by(dead, "sleep", "1000")
    async with running(*PYTHON, LEAVING, TASAK_TREE=instance) as program:
        with orphans.Undertaker(interval=0.01):
            assert -signal.SIGTERM == await asyncio.to_thread(swept.wait, PATIENCE)
            await until(lambda: len(MACHINE.children(program.transport.get_pid())) == 0)
            await until(lambda: [] == dead_orphans(program))
