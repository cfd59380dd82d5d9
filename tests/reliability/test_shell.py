"""Nobody's shell is held: no pipeline, terminal or directory waits for a daemon, whatever home or stdout are like."""

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.reliability.world import World, kill, scribe
from tests.shell import FAST_APP, Done, hear_interrupts, until

pytestmark = [pytest.mark.slow, pytest.mark.keeps("most tests share a daemon, and some begin with its end")]

ROOT = Path(__file__).parents[2]

# The daemon lives on for minutes: who waits for it takes longer than this.
PROMPTLY = 20

CALL = "tasak fast echo --text hello"

# With mounts of its own, which nobody else sees.
PRIVATELY = ["unshare", "--mount"]
CAN_MOUNT = 0 == subprocess.run([*PRIVATELY, "true"], capture_output=True, check=False).returncode
needs_mounts = pytest.mark.skipif(not CAN_MOUNT, reason="who is not root cannot mount")


@pytest.fixture(scope="module")
def house(shared: World) -> World:
    shared.configure(apps(shared))
    return shared


def apps(world: World) -> dict[str, object]:
    return {"fast": FAST_APP | {"env": {"EXEC": str(world.witness)}}, "here": FAST_APP | {"cwd": "caller"}}


@pytest.fixture(params=["cold", "warm"])
def home(request: pytest.FixtureRequest, house: World) -> World:
    """Whose first command starts the daemon, or finds it."""
    if request.param == "cold":
        kill(house.daemons())
    else:
        assert 0 == house("here", "where").returncode
        assert 0 == house("fast", "where").returncode
    house.witness.write_text("")
    return house


def sh(world: World, script: str, *prefix: str, cwd: Path | None = None, **env: str) -> Done:
    """Run the script; returns when both of its outputs have ended, or fails."""
    return subprocess.run(
        [*prefix, "sh", "-c", script],
        env={**world.env, **env},
        cwd=cwd or world.home,
        capture_output=True,
        text=True,
        timeout=PROMPTLY,
        check=False,
    )


# ── pipes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"{CALL} | cat", "hello\n"),
        (f'out=$({CALL}); echo "<$out>"', "<hello>\n"),
        (f"{CALL} 2>&1 | head -n 1", "hello\n"),
        ("tasak fast big --size 1000000 2>&1 | head -c 3", "xxx"),
        (f"{{ {CALL}; }} 9>&1 | cat", "hello\n"),
        (f"setsid --wait {CALL} < /dev/null | cat", "hello\n"),
        (f"{CALL} & wait", "hello\n"),
    ],
)
def test_who_captures_what_a_command_says_waits_for_nobody_else(home, script, expected):
    done = sh(home, script)

    assert (0, expected, "") == (done.returncode, done.stdout, done.stderr)
    assert 1 == len(home.daemons())


# ── terminals ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def terminal(home: World) -> Iterator["pexpect.spawn[str]"]:
    """A shell at a terminal of its own."""
    started = pexpect.spawn(
        "sh",
        env={**home.env, "PS1": "$ "},
        cwd=str(home.home),
        encoding="utf-8",
        timeout=PROMPTLY,
        echo=False,
        preexec_fn=hear_interrupts,
    )
    yield started
    started.close(force=True)


def count_at(terminal: "pexpect.spawn[str]") -> int:
    terminal.sendline("tasak fast counter")
    terminal.expect(r"(\d+)\r\n")
    return int(terminal.match.group(1))


def test_a_terminal_that_is_closed_ends_neither_daemon_nor_server(home, terminal):
    count = count_at(terminal)

    terminal.close(force=True)

    assert f"{count + 1}\n" == home("fast", "counter").stdout
    assert [None] == [daemon.terminal() for daemon in home.daemons()]


def test_ctrl_c_at_a_terminal_ends_the_call_and_neither_daemon_nor_server(home, terminal):
    count = count_at(terminal)
    terminal.sendline("tasak fast sleep --seconds 60")
    until(lambda: "sleep" in home.executions())

    terminal.sendintr()

    terminal.sendline("echo status $?")
    terminal.expect_exact("status 130")
    until(lambda: "cancel" in home.executions())
    assert f"{count + 1}\n" == home("fast", "counter").stdout


# ── directories ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_in_a_directory_that_is_gone_the_users_own_file_alone_counts_and_apps_start_at_home(home):
    project = home.home / "project"
    (project / "gone").mkdir(parents=True, exist_ok=True)
    home.configure({"projects": FAST_APP}, project)

    done = sh(home, 'rmdir ../gone; tasak here where; tasak projects where; echo "status $?"', cwd=project / "gone")

    assert f"{home.home}\nstatus 2\n" == done.stdout
    assert "there is no app 'projects'" in done.stderr


@needs_mounts
def test_a_directory_where_a_command_ran_is_not_kept_busy(home):
    (home.home / "mounted").mkdir(exist_ok=True)

    done = sh(
        home, f'mount -t tmpfs none mounted && cd mounted && {CALL} && cd / && umount "$HOME/mounted"', *PRIVATELY
    )

    assert (0, "hello\n", "") == (done.returncode, done.stdout, done.stderr)
    assert 1 == len(home.daemons())


# ── stdout, stderr, stdin ────────────────────────────────────────────────────────────────────────────────────────


FULL = "No space left on device"
CLOSED = "Bad file descriptor"


TO = pytest.mark.parametrize(("to", "reason"), [("> /dev/full", FULL), (">&-", CLOSED)], ids=["full", "closed"])


@TO
def test_a_result_that_cannot_be_written_is_one_line_and_no_second_call(home, to, reason):
    done = sh(home, f"tasak fast counter {to}")

    assert 1 == done.returncode
    assert done.stderr.startswith("tasak: ")
    assert reason in done.stderr
    assert {"counter": 1} == home.executions()


@TO
def test_a_result_that_the_full_command_cannot_write_is_no_bug_of_ours(house, to, reason):
    done = sh(house, f"tasak fast {to}")

    assert (1, f"tasak: cannot write the result: {reason}\n") == (done.returncode, done.stderr)


@TO
def test_a_document_that_the_full_command_cannot_write_is_no_traceback(house, to, reason):
    kill(house.daemons())

    house.witness.write_text("")

    done = sh(house, f"tasak --json fast counter {to}")

    assert 1 == done.returncode
    assert done.stderr.startswith(f"tasak: cannot write the result: {reason}")
    assert 1 == done.stderr.count("\n")
    assert {"counter": 1} == house.executions()


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "2>/dev/full", "<&- 2>&-"])
def test_a_stream_that_is_closed_and_not_needed_is_no_obstacle(home, closed):
    done = sh(home, f"{CALL} {closed}")

    assert (0, "hello\n", "") == (done.returncode, done.stdout, done.stderr)


# ── homes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_home(world: World, home: Path, *words: str) -> Done:
    return sh(world, f"tasak {shlex.join(words)}", cwd=Path("/"), HOME=str(home))


def empty_but_for(kept: Path, folder: str) -> Iterator[str]:
    """Commands that mount an empty folder there, in which a path below it is what it was: we may be installed in it."""
    yield "mount -t tmpfs none /run"
    if kept.is_relative_to(folder):
        place = shlex.quote(f"/run/{kept.relative_to(folder)}")
        yield f"mkdir -p {place} && mount --bind {shlex.quote(str(kept))} {place}"
    yield f"mount --rbind /run {folder}"


@needs_mounts
def test_a_home_that_is_read_only_means_a_direct_call_one_line_and_nothing_written_elsewhere(world):
    world.configure({"scribe": scribe(Path("/srv/exec"))})
    mounts = " && ".join(
        [
            'mount --bind "$HOME" /mnt && mount -o remount,ro,bind /mnt',
            "mount -t tmpfs none /srv && mount -t tmpfs none /dev/shm",
            *empty_but_for(ROOT, "/tmp"),
            "cd /",
        ]
    )
    call = shlex.join(["tasak", *world.words("a")])
    look = "ls -A /tmp /dev/shm"

    done = sh(
        world,
        f'{mounts} && before=$({look}) && HOME=/mnt {call}; [ "$before" = "$({look})" ] && cat /srv/exec',
        *PRIVATELY,
    )

    assert "a\na\n" == done.stdout, done.stderr
    (line,) = done.stderr.splitlines()
    assert "Read-only file system: called directly, nothing stays warm" in line


@needs_mounts
@pytest.mark.parametrize("on_tool_change", ["warn", "block"])
def test_a_home_that_has_become_read_only_still_knows_the_tools_that_were_seen(world, on_tool_change):
    world.configure({"scribe": scribe(Path("/srv/exec")) | {"on_tool_change": on_tool_change}})
    call = shlex.join(["tasak", "--no-daemon", *world.words("a")])
    becomes_read_only = 'mount --bind "$HOME" "$HOME" && mount -o remount,ro,bind "$HOME"'

    done = sh(world, f"mount -t tmpfs none /srv && {call} && {becomes_read_only} && cd / && {call}", *PRIVATELY)

    assert (0, "a\na\n", "") == (done.returncode, done.stdout, done.stderr)


@needs_mounts
def test_without_home_the_users_entry_in_the_database_says_where_it_is(world):
    (world.home / "passwd").write_text(f"root:x:0:0:root:{world.home}:/bin/sh\n")
    call = shlex.join(["tasak", *world.words("a")])

    done = sh(world, f"mount --bind passwd /etc/passwd && unset HOME && {call}", *PRIVATELY)

    assert (0, "a\n", "") == (done.returncode, done.stdout, done.stderr)
    assert world.state.socket.is_socket()


def with_no_entry(world: World) -> str:
    """Commands after which no database knows the user's home."""
    (world.home / "passwd").write_text("")
    (world.home / "nsswitch.conf").write_text("passwd: files\n")
    return "mount --bind passwd /etc/passwd && mount --bind nsswitch.conf /etc/nsswitch.conf && unset HOME"


@needs_mounts
@pytest.mark.parametrize("words", ["daemon start", "daemon status", "daemon stop"])
def test_without_home_and_entry_it_is_said_what_to_set(house, words):
    done = sh(house, f"{with_no_entry(house)} && tasak {words}", *PRIVATELY)

    assert (2, "") == (done.returncode, done.stdout)
    assert "set HOME" in done.stderr
    assert "Traceback" not in done.stderr


@needs_mounts
def test_without_home_and_entry_a_project_s_app_is_called_directly(house):
    project = house.home / "project"
    project.mkdir(exist_ok=True)
    house.configure({"projects": FAST_APP}, project)

    done = sh(house, f"{with_no_entry(house)} && cd project && tasak projects echo --text hello", *PRIVATELY)

    assert (0, "hello\n") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert "called directly, nothing stays warm" in line
    assert "set HOME" in line


@pytest.mark.parametrize("home", ["", "some/where"])
@pytest.mark.parametrize("words", ["daemon start", "daemon status", "daemon stop"])
def test_a_home_that_is_none_is_refused_where_there_is_something_to_do_with_it(house, home, words):
    done = sh(house, f"tasak {words}", HOME=home)

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(f"tasak: HOME is {home!r}, which is no absolute path\n  set HOME")


@pytest.mark.parametrize("home", ["", "some/where"])
def test_without_a_home_a_project_s_app_is_called_directly(house, home):
    project = house.home / "project"
    project.mkdir(exist_ok=True)
    house.configure({"projects": FAST_APP}, project)

    done = sh(house, "tasak projects echo --text hello", cwd=project, HOME=home)

    assert (0, "hello\n") == (done.returncode, done.stdout)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tasak: HOME is {home!r}, which is no absolute path: called directly, nothing stays warm")


@pytest.mark.parametrize("home", ["", "some/where"])
def test_without_a_home_the_app_of_a_named_config_is_called_directly(house, home):
    config = str(house.configure({"named": FAST_APP}, house.home / "elsewhere"))

    done = sh(house, "tasak named echo --text hello", HOME=home, TASAK_CONFIG=config)

    assert (0, "hello\n") == (done.returncode, done.stdout)


def test_without_a_home_a_call_with_an_id_is_refused_as_there_is_no_place_for_it(house):
    house.witness.write_text("")
    config = str(house.state.config)

    done = sh(house, "tasak --call-id a fast counter", HOME="", TASAK_CONFIG=config)

    assert (2, "") == (done.returncode, done.stdout)
    assert "tasak: HOME is '', which is no absolute path\n  set HOME to your home folder\n" == done.stderr
    assert {} == house.executions()


@pytest.mark.parametrize(
    "name", ["with a blank", "zażółć", "a\nline", "-", "$(touch x)", "long-" * 30], ids=lambda name: name[:12].strip()
)
def test_a_home_may_have_any_name(world, name):
    home = world.home / name
    shutil.copytree(world.state.root, home / ".tasak")

    first = with_home(world, home, *world.words("a"))
    second = with_home(world, home, *world.words("b"))
    stopped = with_home(world, home, "daemon", "stop")

    assert [(0, "a\n", ""), (0, "b\n", "")] == [(done.returncode, done.stdout, done.stderr) for done in (first, second)]
    assert (0, "stopped") == (stopped.returncode, stopped.stdout[:7])


def test_two_homes_have_nothing_in_common(house, world):
    assert 0 == house("fast", "counter").returncode
    world.configure({"fast": FAST_APP})

    assert "1\n" == world("fast", "counter").stdout
    assert 0 == world("daemon", "stop").returncode

    assert [1, 0] == [len(each.daemons()) for each in (house, world)]
    assert 0 == house("fast", "counter").returncode
