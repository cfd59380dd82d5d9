"""Nobody but the user decides what the daemon reads and writes: modes, links, owners, and who may connect."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tasak.errors import BadConfig
from tasak.paths import StateDir, make_private, open_private, read_private, write_private
from tests.security.people import OWN_APP, OWNER, STRANGER, Home, as_root

APPS = {"fast": {**OWN_APP, "retries": 0}}

Look = tuple[bytes, int, int, int]


@pytest.fixture
def home() -> Iterator[Home]:
    with Home() as made:
        made.configure(APPS)
        yield made


@pytest.fixture
def outside(home: Home) -> Home:
    """Its apps are defined in a project of its own, where nobody else can write, and nowhere else."""
    home.cwd = home.home / "project"
    home.cwd.mkdir(mode=0o755)
    home.configure(APPS, home.cwd)
    (home.state / "tasak.yaml").unlink()
    return home


def slow(*values: object, **how: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow, **how)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def free_port() -> str:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return str(trial.getsockname()[1])


# ── whoever made it, it is the user's alone ──────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_all_that_is_made_is_the_users_alone_whatever_the_umask_is(home, umask):
    shutil.rmtree(home.state)
    project = home.home / "project"
    project.mkdir()
    home.configure(APPS, project)

    done = home(
        "--call-id", "one", "fast", "complain", "--text", "hi", umask=umask, cwd=project, TASAK_DAEMON_PORT=free_port()
    )
    pid = int(home.run(["cat", home.state / "daemon.pid"]).stdout)

    assert (0, "") == (done.returncode, done.stderr)
    made = {path.relative_to(home.state).as_posix(): path for path in home.state.rglob("*")}
    files = {"daemon.lock", "daemon.log", "daemon.pid", "daemon.sock", "daemon.token", "outcomes.jsonl"}
    assert {*files, "start.lock", "logs", "logs/fast.log"} <= made.keys()
    expected = {name: 0o700 if path.is_dir() else 0o600 for name, path in made.items()}
    assert expected == {name: mode_of(path) for name, path in made.items()}
    assert {OWNER} == {path.lstat().st_uid for path in (home.state, *made.values())}
    assert 0o700 == mode_of(home.state)
    assert Path(f"/proc/{pid}").stat().st_uid == OWNER or sys.platform != "linux"


@pytest.mark.slow
def test_what_others_could_read_is_theirs_no_longer(home):
    names = ["daemon.lock", "daemon.log", "daemon.pid", "start.lock", "outcomes.jsonl"]
    for name in names:
        (home.state / name).touch(mode=0o666)
        (home.state / name).chmod(0o666)
        home.give(home.state / name)

    done = home("--call-id", "one", "fast", "echo", "--text", "hi")

    assert (0, "hi\n") == (done.returncode, done.stdout)
    assert dict.fromkeys(names, 0o600) == {name: mode_of(home.state / name) for name in names}


# ── something else in the place of a file ────────────────────────────────────────────────────────────────────────


def link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def second_name(place: Path, victim: Path) -> None:
    os.link(victim, place)


def pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place, 0o600)


def folder(place: Path, victim: Path) -> None:
    place.mkdir(mode=0o700)


KINDS = (link, second_name, pipe, folder)
NAMES = (
    "daemon.pid",
    "daemon.log",
    "daemon.log.1",
    "daemon.lock",
    "daemon.sock",
    "daemon.token",
    "daemon.disabled",
    "start.lock",
    "start.failed",
    "outcomes.jsonl",
    "logs",
    "logs/fast.log",
)
# For every run of the tests: it would hold up the whole daemon.
QUICK = {("logs/fast.log", pipe)}


@pytest.fixture
def victim(home: Home) -> Path:
    made = home.home / "victim"
    made.write_text("untouched")
    made.chmod(0o644)
    os.utime(made, (1, 1))
    home.give(made)
    return made


def look(path: Path) -> Look:
    found = path.stat()
    return path.read_bytes(), found.st_mode, found.st_mtime_ns, found.st_uid


@pytest.mark.parametrize(
    ("name", "plant"),
    [(n, p) if (n, p) in QUICK else slow(n, p) for n in NAMES for p in KINDS if (n, p) != ("logs", folder)],
)
def test_whatever_stands_in_the_place_of_a_file_it_harms_nobody_and_costs_no_call(home, victim, name, plant):
    place = home.state / name
    place.parent.mkdir(mode=0o700, exist_ok=True)
    plant(place, victim)
    for each in (place.parent, place):
        home.give(each)
    before = look(victim)
    # The journal alone is for some calls, which are not made without it.
    words = ["--call-id", "one"] if name == "outcomes.jsonl" else []

    called = home(*words, "fast", "echo", "--text", "hi", TASAK_DAEMON_PORT=free_port())
    stopped = home("daemon", "stop")

    assert before == look(victim)
    assert "Traceback" not in called.stderr + stopped.stderr
    assert "a bug in tasak" not in called.stderr + stopped.stderr
    if words:
        assert (4, "") == (called.returncode, called.stdout)
        assert str(place) in called.stderr
    else:
        assert (0, "hi\n") == (called.returncode, called.stdout)
        assert called.stderr == "" or str(place) in called.stderr or "daemon is stopped" in called.stderr


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("use", [read_private, lambda path: open_private(path, os.O_WRONLY | os.O_APPEND)])
def test_what_is_no_file_of_ours_is_neither_read_nor_written_nor_waited_for(tmp_path, plant, use):
    victim, place = tmp_path / "victim", tmp_path / "file"
    victim.write_text("untouched")
    victim.chmod(0o644)
    plant(place, victim)
    before = look(victim)

    with pytest.raises(BadConfig, match="not a file of yours alone") as raised:
        use(place)

    assert f"move it away: mv {place} {place}.old" == raised.value.fix
    assert before == look(victim)


@pytest.mark.parametrize("plant", [link, second_name, pipe])
def test_a_file_is_replaced_whatever_stood_there(tmp_path, plant):
    victim, place = tmp_path / "victim", tmp_path / "file"
    victim.write_text("untouched")
    plant(place, victim)
    before = look(victim)

    write_private(place, "ours")

    assert ("ours", 0o600) == (read_private(place), mode_of(place))
    assert before == look(victim)
    assert {"file", "victim"} == {path.name for path in tmp_path.iterdir()}


def test_a_folder_is_not_replaced_by_a_file_and_nothing_is_left_of_the_attempt(tmp_path):
    (tmp_path / "file").mkdir()

    with pytest.raises(BadConfig, match="not a file of yours alone"):
        write_private(tmp_path / "file", "ours")

    assert ["file"] == [path.name for path in tmp_path.iterdir()]


def test_a_full_disk_leaves_the_file_as_it_was_and_no_half_of_another(tmp_path):
    path = tmp_path / "file"
    write_private(path, "old")
    program = """
import resource, sys
from pathlib import Path
from tasak.paths import write_private
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_private(Path(sys.argv[1]), "x" * 5000)
except OSError as problem:
    print(problem.strerror)
"""

    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)

    assert "File too large\n" == done.stdout
    assert [("file", "old")] == [(each.name, each.read_text()) for each in tmp_path.iterdir()]


@pytest.mark.parametrize("plant", KINDS)
def test_whatever_stands_in_the_place_of_the_disabled_file_it_turns_auto_start_off_until_it_is_removed(tmp_path, plant):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    state = StateDir(tmp_path / ".tasak")
    state.create()
    plant(state.disabled, victim)
    before = look(victim)

    state.disable()
    was_disabled = state.is_disabled
    if plant is folder:
        with pytest.raises(BadConfig, match=r"daemon\.disabled is not a file of yours alone"):
            state.enable()
    else:
        state.enable()

    assert was_disabled
    assert (plant is folder) is state.is_disabled
    assert before == look(victim)


# ── a state folder that others have a hand in ────────────────────────────────────────────────────────────────────


def open_folder(home: Home) -> tuple[str, str]:
    home.state.chmod(0o777)
    return f"others can write to {home.state} (mode 777)", f"chmod 700 {home.state}"


def open_to_group(home: Home) -> tuple[str, str]:
    home.state.chmod(0o775)
    return f"others can write to {home.state} (mode 775)", f"chmod 700 {home.state}"


def linked_folder(home: Home) -> tuple[str, str]:
    home.state.rename(home.home / "elsewhere")
    home.state.symlink_to(home.home / "elsewhere")
    home.give(home.state)
    return f"{home.state} is not a folder of yours", f"mv {home.state} {home.state}.old"


def folder_of_another(home: Home) -> tuple[str, str]:
    home.give(home.state, STRANGER)
    return f"{home.state} is not a folder of yours", f"mv {home.state} {home.state}.old"


def open_home(home: Home) -> tuple[str, str]:
    home.home.chmod(0o777)
    return f"others can write to {home.home} (mode 777), and so replace {home.state}", f"chmod go-w {home.home}"


UNSAFE = [open_folder, open_to_group, linked_folder, pytest.param(folder_of_another, marks=as_root), open_home]


@pytest.mark.slow
@pytest.mark.parametrize("spoil", UNSAFE)
def test_a_state_folder_that_others_have_a_hand_in_is_not_used_and_what_mends_it_is_said(outside, spoil):
    assert 0 == outside("daemon", "start").returncode
    pid = int((outside.state / "daemon.pid").read_text())
    said, mend = spoil(outside)

    called = outside("fast", "echo", "--text", "hi")
    started = outside("daemon", "start")

    assert (0, "hi\n") == (called.returncode, called.stdout)
    assert f"tasak: no daemon: {said}: called directly, nothing stays warm\n  " in called.stderr
    assert mend in called.stderr
    assert (2, "") == (started.returncode, started.stdout)
    assert f"tasak: {said}\n" in started.stderr
    assert mend in started.stderr
    assert [] == children_of(pid)
    mended(outside)
    assert pid == int((outside.state / "daemon.pid").read_text())


def children_of(pid: int) -> list[str]:
    found = subprocess.run(["ps", "-o", "args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.split("\n")[:-1]


def mended(home: Home) -> None:
    if home.state.is_symlink():
        home.state.unlink()
        (home.home / "elsewhere").rename(home.state)
    home.give(home.state)
    home.state.chmod(0o700)
    home.home.chmod(0o700)


@pytest.mark.parametrize("spoil", [open_folder, slow(open_home), slow(linked_folder)])
def test_a_daemon_does_not_start_in_a_state_folder_that_others_have_a_hand_in(outside, spoil):
    said, mend = spoil(outside)

    done = outside.run([sys.executable, "-P", "-m", "tasak.daemon"])

    mended(outside)
    assert 2 == done.returncode
    assert said in done.stderr
    assert mend in done.stderr
    assert not (outside.state / "daemon.sock").exists()


@as_root
@pytest.mark.parametrize(
    ("mode", "uid", "said"), [(0o775, 0, "mode 775"), (0o755, STRANGER, "belongs to another user")]
)
def test_a_home_of_others_is_none(tmp_path, mode, uid, said):
    tmp_path.chmod(mode)
    os.chown(tmp_path, uid, STRANGER)

    with pytest.raises(BadConfig, match=said):
        make_private(tmp_path / ".tasak")


def test_a_home_like_tmp_where_nobody_can_replace_what_is_yours_will_do(tmp_path):
    tmp_path.chmod(0o1777)

    make_private(tmp_path / ".tasak")

    assert 0o700 == mode_of(tmp_path / ".tasak")


# ── code from where others can write ─────────────────────────────────────────────────────────────────────────────

# What is imported from there writes down in whose process.
HOSTILE = """
import os, sys
with open({marker!r}, "a") as marker:
    print(open("/proc/self/cmdline").read().replace(chr(0), " "), file=marker)
"""


@pytest.fixture
def checkout(home: Home) -> Path:
    """A folder that somebody else wrote, with modules of names that we import, and a plugin."""
    made = home.home / "checkout"
    made.mkdir(mode=0o755)
    hostile = HOSTILE.format(marker=str(home.home / "marker"))
    for name in ("sitecustomize", "yaml", "aiohttp", "mcp", "structlog", "plugin_evil"):
        (made / f"{name}.py").write_text(hostile)
    info = made / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tasak.transports]\nevil = plugin_evil\n")
    return made


def loaded_by(home: Home) -> list[str]:
    marker = home.home / "marker"
    return marker.read_text().splitlines() if marker.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says whose process it is")
def test_nothing_is_loaded_from_where_the_command_is_typed(home, checkout):
    called = home("fast", "echo", "--text", "hi", cwd=checkout)
    listed = home("plugins", cwd=checkout)

    assert (0, "hi\n") == (called.returncode, called.stdout)
    assert "evil" not in listed.stdout
    assert [] == loaded_by(home)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says whose process it is")
def test_a_daemon_does_not_load_from_there_even_where_the_user_has_their_python_do_so(home, checkout):
    env: Mapping[str, str] = {"PYTHONPATH": "."}

    home("daemon", "start", cwd=checkout, **env)
    called = home("fast", "echo", "--text", "hi", cwd=checkout, **env)

    assert (0, "hi\n") == (called.returncode, called.stdout)
    assert [] == [each for each in loaded_by(home) if "tasak.daemon" in each]
