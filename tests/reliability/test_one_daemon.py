"""One daemon for each user, whatever comes first, dies half way, was left behind or belongs to another version."""

import fcntl
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest

import tasak
from tasak.cli import daemon_road
from tasak.client import launcher, stopper
from tests.client.launchers import in_c, run
from tests.reliability.world import PATIENCE, World, kill, scribe
from tests.security.front import free_port
from tests.shell import Done, until

# With mounts of its own, which nobody else sees.
PRIVATELY = ["unshare", "--mount"]
CAN_MOUNT = 0 == subprocess.run([*PRIVATELY, "true"], capture_output=True, check=False).returncode
needs_mounts = pytest.mark.skipif(not CAN_MOUNT, reason="who is not root cannot mount")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.keeps("the process that forks commands outlives each test"),
]

STARTING = 1.0

# Seconds in which a daemon should notice that nothing is where it was.
NOTICED = 2.0


def slow(*values: object) -> object:
    return pytest.param(*values, marks=[pytest.mark.timeout(300)])


# ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("callers", "rounds"), [(12, 1), slow(50, 20)])
def test_whoever_comes_first_there_is_one_daemon_and_each_has_an_answer(world, commands, callers, rounds):
    for _ in range(rounds):
        marks = [world.new_mark() for _ in range(callers)]

        with ThreadPoolExecutor(callers) as threads:
            done = list(threads.map(lambda mark: commands(*world.words(mark), env=world.env, cwd=world.home), marks))

        assert [(0, f"{mark}\n", "") for mark in marks] == [(e.returncode, e.stdout, e.stderr) for e in done]
        assert dict.fromkeys(marks, 1) == {mark: world.executions()[mark] for mark in marks}
        assert [1, 1] == [len(world.daemons()), len(world.servers())]
        kill(world.daemons())


# ── killed while it starts ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("times", [1, slow(15)])
@pytest.mark.parametrize("victim", ["daemon", "starter"])
def test_after_a_kill_at_any_moment_of_the_start_the_next_call_works(world, commands, victim, times):
    for _ in range(times):
        mark, next_mark = world.new_mark(), world.new_mark()
        call = world.start(*world.words(mark))
        time.sleep(random.uniform(0, STARTING))
        if victim == "daemon":
            kill(world.daemons())
        else:
            call.kill()
        call.communicate(timeout=PATIENCE)

        done = commands(*world.words(next_mark), env=world.env, cwd=world.home)

        assert (0, f"{next_mark}\n") == (done.returncode, done.stdout), done.stderr
        assert 1 == world.executions()[next_mark]
        assert 1 >= world.executions()[mark]
        assert call.returncode in ((0, 6) if victim == "daemon" else (-signal.SIGKILL, 0))
        kill(world.daemons())

    assert 0 == world("daemon", "start").returncode
    assert 1 == len(world.daemons())


# ── left behind ──────────────────────────────────────────────────────────────────────────────────────────────────


def dead_socket(world: World) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(world.state.socket))


def file_for_socket(world: World) -> None:
    world.state.socket.write_text("not a socket")


def link_for_socket(world: World) -> None:
    world.state.socket.symlink_to(world.home / "victim")


def pid_of_another(world: World) -> None:
    world.state.pid_file.write_text(f"{os.getpid()}\n")


def garbage(world: World) -> None:
    for path in (world.state.pid_file, world.state.lock, world.state.start_lock, world.state.start_failed):
        path.write_bytes(b"\0\xff garbage\n" * 10)


def failure_of_tomorrow(world: World) -> None:
    later = {"count": 9, "at": time.time() + 86_400, "said": "no"}
    world.state.start_failed.write_text(json.dumps(later))


def links(world: World) -> None:
    for path in (world.state.pid_file, world.state.log, world.state.outcomes):
        path.symlink_to(world.home / "victim")


LEFT = [dead_socket, garbage, file_for_socket, link_for_socket, pid_of_another, failure_of_tomorrow, links]


@pytest.mark.parametrize("leave", [*LEFT[:2], *map(slow, LEFT[2:])], ids=lambda leave: getattr(leave, "__name__", None))
def test_what_is_left_behind_keeps_no_daemon_from_starting_and_misleads_nobody(world, commands, leave):
    victim = world.home / "victim"
    victim.write_text("untouched")
    leave(world)

    done = commands(*world.words("a"), env=world.env, cwd=world.home)

    assert (0, "a\n", "") == (done.returncode, done.stdout, done.stderr)
    assert "untouched" == victim.read_text()
    (daemon,) = world.daemons()
    assert daemon.pid == world.daemon_pid
    assert 0 == world("daemon", "stop").returncode
    assert "untouched" == victim.read_text()


@pytest.mark.parametrize("how", ["file", "link"])
def test_whatever_stands_in_the_place_of_the_disabled_file_no_daemon_is_started(world, commands, how):
    world.state.disabled.touch() if how == "file" else world.state.disabled.symlink_to(world.home / "nowhere")

    done = commands(*world.words("a"), env=world.env, cwd=world.home)

    assert (0, "a\n") == (done.returncode, done.stdout)
    assert [] == world.daemons()


# ── taken away ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bereft(world: World) -> Iterator[World]:
    """Its daemon runs, and the state folder is gone."""
    world.state.config.unlink()
    world.configure({"scribe": scribe(world.witness)}, folder=world.home)
    assert 0 == world(*world.words("before")).returncode
    daemons = world.daemons()
    shutil.rmtree(world.state.root)
    yield world
    kill(daemons)


def test_a_state_folder_that_is_deleted_costs_no_call(bereft):
    done = bereft(*bereft.words("after"))

    assert (0, "after\n") == (done.returncode, done.stdout)
    assert {"before": 1, "after": 1} == bereft.executions()
    assert bereft.daemon_pid in [daemon.pid for daemon in bereft.daemons()]


def test_a_daemon_whose_state_folder_is_deleted_does_not_stay_beside_the_next_one(bereft):
    (daemon,) = bereft.daemons()
    assert 0 == bereft("daemon", "start").returncode

    daemon.wait(NOTICED)


# ── a full disk ──────────────────────────────────────────────────────────────────────────────────────────────────


@needs_mounts
@pytest.mark.parametrize(
    ("left", "said"), [(0, "No space left on device"), (4, "")], ids=["nothing left", "4 KiB left"]
)
def test_on_a_full_disk_the_call_is_made_directly_and_no_empty_file_is_left(world, left, said):
    full = 'cp "$HOME/.tasak/tasak.yaml" full.yaml && mount -t tmpfs -o size=64k,mode=700 none "$HOME/.tasak"'
    full += ' && cp full.yaml "$HOME/.tasak/tasak.yaml" && cat /dev/zero > "$HOME/.tasak/fill" 2>/dev/null'
    room = f'; truncate -s -{left}k "$HOME/.tasak/fill"'
    call = shlex.join(["tasak", *world.words("a")])
    look = 'cd "$HOME/.tasak" && find . -name "daemon.pid*" -size 0'

    done = subprocess.run(
        [*PRIVATELY, "sh", "-c", f"{full}{room}; {call}; echo status $?; tasak daemon stop > /dev/null; {look}"],
        env=world.env,
        cwd=world.home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert "a\nstatus 0\n" == done.stdout
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert {"a": 1} == world.executions()


# ── another version ──────────────────────────────────────────────────────────────────────────────────────────────

# A daemon of the installation that it runs in, which is as many seconds old as it is told to be.
AGED = """
import sys, tasak.daemon
tasak.daemon.BORN -= float(sys.argv[1])
sys.exit(tasak.daemon.main())
"""
AN_HOUR = 3600

# Longer than a command takes that does not wait.
WAITING = 3.0


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the environment of a command has so that it is one of another installation, and of a later version."""
    folder = tmp_path_factory.mktemp("newer")
    package = Path(tasak.__file__).parent
    shutil.copytree(package, folder / "tasak", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tasak" / "__init__.py").write_text('__version__ = "9.9.9"\n')
    return {"PYTHONPATH": str(folder)}


@contextmanager
def aged_daemon(world: World, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A daemon that has run for an hour."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", AGED, str(AN_HOUR)],
        env={**world.env, **env},
        cwd="/",
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        try:
            assert launcher.READY == process.stderr.readline()
            yield process
        finally:
            process.kill()


def in_python(world: World, *words: str, **env: str) -> Done:
    """The command, with the launcher that is of the installation named by the environment: no compiled one is."""
    command = [sys.executable, "-P", "-m", "tasak", *words]
    return subprocess.run(
        command,
        env={**world.env, **env},
        cwd=world.cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def version(world: World) -> str:
    return str(stopper.answers(world.state, "GET", "/health", PATIENCE).get("version"))


@pytest.mark.parametrize("direction", ["upwards", "downwards"])
def test_a_daemon_of_another_version_is_replaced_in_either_direction(world, newer, direction):
    theirs, ours, expected = ({}, newer, "9.9.9") if direction == "upwards" else (newer, {}, tasak.__version__)
    with aged_daemon(world, **theirs) as old:
        done = in_python(world, *world.words("a"), **ours)

        assert (0, "a\n") == (done.returncode, done.stdout)
        assert "the daemon was replaced" in done.stderr
        assert 0 == old.wait(PATIENCE)
    assert expected == version(world)
    assert {"a": 1} == world.executions()


@pytest.mark.compiler
def test_a_launcher_that_an_edited_package_has_left_behind_is_named_and_the_daemon_stays(world, tmp_path):
    old = in_c(tmp_path, "-UTASAK_VERSION", '-DTASAK_VERSION="0.0.1"')
    metadata = tmp_path / "tasak-0.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: tasak\nVersion: 0.0.1\n")
    with aged_daemon(world) as daemon:
        for mark in ("a", "b"):
            done = run([*old.whole, *world.words(mark)], None, env={**world.env, "PYTHONPATH": str(tmp_path)})

            said = f"the native launcher is of tasak 0.0.1, and this is {tasak.__version__}: {daemon_road.RENEW}"
            assert (0, f"{mark}\n") == (done.returncode, done.stdout.decode())
            assert [f"tasak: {said}"] == done.stderr.decode().splitlines()
        assert None is daemon.poll()
    assert {"a": 1, "b": 1} == world.executions()


def test_two_installations_that_are_used_in_turn_do_not_replace_each_others_daemon_each_time(world, newer):
    daemons = set()
    for _ in range(10):
        for env in ({}, newer):
            mark = world.new_mark()

            done = in_python(world, *world.words(mark), **env)

            assert (0, f"{mark}\n") == (done.returncode, done.stdout)
            assert 1 == world.executions()[mark]
            daemons |= {*world.daemons()}
            assert 1 == len(daemons), done.stderr


def test_who_waits_while_another_replaces_the_daemon_does_not_take_the_old_one_for_the_new(world, newer):
    with aged_daemon(world, **newer) as old, ThreadPoolExecutor(1) as threads, world.state.start_lock.open("w") as lock:
        world.state.start_lock.chmod(0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        call = threads.submit(world, *world.words("a"))
        wait([call], WAITING)
        fcntl.flock(lock, fcntl.LOCK_UN)

        done = call.result(PATIENCE)

        assert (0, "a\n") == (done.returncode, done.stdout)
        assert ("the daemon was replaced" in done.stderr) is (old.poll() is not None)


# ── an installation that goes ────────────────────────────────────────────────────────────────────────────────────


def test_calls_go_on_when_the_installation_is_deleted_under_the_daemon(world, newer, tmp_path):
    shutil.copytree(newer["PYTHONPATH"], tmp_path / "doomed")
    env = {"PYTHONPATH": str(tmp_path / "doomed")}
    assert 0 == in_python(world, *world.words("before"), **env).returncode
    shutil.rmtree(tmp_path / "doomed")

    done = in_python(world, *world.words("after"), **newer)

    assert (0, "after\n", "") == (done.returncode, done.stdout, done.stderr)
    assert "9.9.9" == version(world)
    assert 0 == world("daemon", "stop").returncode


def test_what_was_not_used_before_is_there_when_the_installation_is_deleted(world, tmp_path):
    """Whoever comes then has the same version, in another place."""
    package = Path(tasak.__file__).parent
    doomed, other = ({"PYTHONPATH": str(tmp_path / name)} for name in ("doomed", "other"))
    for there in (doomed, other):
        shutil.copytree(package, Path(there["PYTHONPATH"]) / "tasak", ignore=shutil.ignore_patterns("__pycache__"))
    assert 0 == in_python(world, "daemon", "start", **doomed).returncode
    until(lambda: world.state.log.exists() and "all is loaded" in world.state.log.read_text())
    daemon = world.daemon_pid
    shutil.rmtree(tmp_path / "doomed")
    step = {"app": "scribe", "tool": "write", "arguments": {"mark": "a", "then": "answer"}}
    nobody = f"http://127.0.0.1:{free_port()}"
    world.configure(
        {
            "scribe": scribe(world.witness),
            "curated": {"tools": {"go": {"steps": [step, {"command": ["echo", "b"]}]}}, "transport": "curated"},
            "http": {"url": f"{nobody}/mcp"},
            "sse": {"url": f"{nobody}/sse", "transport": "sse"},
        }
    )

    called = in_python(world, "--call-id", "c", *world.words("c"), **other)
    composed = in_python(world, "curated", "go", **other)
    told = in_python(world, "outcome", "c", **other)
    away = [in_python(world, app, "go", **other) for app in ("http", "sse")]
    seen = [in_python(world, *words, **other) for words in (["connections"], ["metrics"], ["ping", "scribe"])]

    assert [(0, "c\n", ""), (0, "b\n", "")] == [(e.returncode, e.stdout, e.stderr) for e in (called, composed)]
    assert (0, "") == (told.returncode, told.stderr)
    assert [4, 4] == [each.returncode for each in away]
    assert all(nobody in each.stderr and "cannot be used" not in each.stderr for each in away)
    assert [(0, "")] * 3 == [(each.returncode, each.stderr) for each in seen]
    assert daemon == world.daemon_pid
